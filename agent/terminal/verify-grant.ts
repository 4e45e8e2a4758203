import { fromBinary } from '@bufbuild/protobuf';
import { createValidator } from '@bufbuild/protovalidate';
import { type DsseEnvelope, verifyDsse } from '../../pki/verify/dsse.ts';
import { CHANNEL_GRANT_TYPE } from '../../pki/verify/task.ts';
import { type ChannelGrant, ChannelGrantSchema } from '../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import { freshnessFault, signerKeys } from '../tasks/verify-envelope.ts';

/**
 * Whether an order to open a channel is one: signed by a task signer of the trust bundle, for this node and its present
 * image, fresh, and inside the contract's limits.
 */
export type GrantVerdict =
	| { readonly kind: 'ok'; readonly grant: ChannelGrant }
	| {
			readonly kind: 'refused';
			readonly reason: string;
			readonly message: string;
			/** What it says it is for: not proven. */
			readonly channelId: string;
	  };

export interface GrantExpectation {
	readonly nodeId: string;
	readonly generation: number;
	readonly trustDomain: string;
	readonly taskSigners: readonly Uint8Array[];
	readonly nowMs: number;
}

const validator = createValidator();

export function verifyGrant(dsse: DsseEnvelope | undefined, expected: GrantExpectation): GrantVerdict {
	const grant = dsse === undefined ? undefined : decode(dsse.payload);
	const channelId = grant?.channelId ?? '';
	const refused = (reason: string, message: string): GrantVerdict => ({ kind: 'refused', reason, message, channelId });
	if (dsse === undefined || grant === undefined) return refused('ENVELOPE_MALFORMED', "the grant can't be read");
	const verified = verifyDsse(dsse, { payloadType: CHANNEL_GRANT_TYPE, keys: signerKeys(expected) });
	if (verified.kind === 'refused') return refused('ENVELOPE_SIGNATURE', verified.message);
	if (grant.nodeId !== expected.nodeId) return refused('ENVELOPE_ADDRESSEE', `it is for node ${grant.nodeId}`);
	if (grant.generation !== expected.generation)
		return refused('ENVELOPE_GENERATION', `it is for image generation ${grant.generation} of this node`);
	const invalid = validator.validate(ChannelGrantSchema, grant);
	if (invalid.kind !== 'valid')
		return refused('ENVELOPE_MALFORMED', `it breaks the contract: ${invalid.error?.message ?? 'no reason'}`);
	const stale = freshnessFault(grant, expected.nowMs);
	if (stale !== undefined) return refused('ENVELOPE_STALE', stale);
	return { kind: 'ok', grant };
}

function decode(payload: Uint8Array): ChannelGrant | undefined {
	try {
		return fromBinary(ChannelGrantSchema, payload);
	} catch {
		return undefined;
	}
}
