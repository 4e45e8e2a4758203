import type { MessageInitShape } from '@bufbuild/protobuf';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import type { Clock } from '../../kit/clock.ts';
import { GpuaasError } from '../../kit/error.ts';
import type { Rng } from '../../kit/ids.ts';
import type { Logger } from '../../kit/log.ts';
import { enrollHelloTranscript, enrollProofDigest } from '../../pki/keys/enroll-transcript.ts';
import { joinTokenSigner, parseJoinToken } from '../../pki/keys/join-token.ts';
import { generateNodeKey, loadNodeKey, type NodeKey } from '../../pki/keys/node-key.ts';
import type { SyncSigner } from '../../pki/keys/signer.ts';
import { createCsr } from '../../pki/x509/csr.ts';
import {
	type BeginEnrollmentRequestSchema,
	type CompleteEnrollmentResponse,
	EnrollmentService,
	type HardwareFactsSchema,
} from '../../proto/gen/gpuaas/enrollment/v1/enrollment_pb.ts';
import { EnrollConnection, type EnrollPeer, findPinnedRoot } from './enroll-connection.ts';
import { checkIssued } from './issued.ts';
import { IdentityFolder, STATE_FORMAT } from './state-file.ts';
import { StoredIdentity, storedCredential, toBase64 } from './stored-identity.ts';

/**
 * How this host gets its identity: with a join token once, with its join state after an outage past expiry. The key is
 * made here, written to disk before anything is sent, and used again for every further try with the same token, so
 * that a lost answer or a crash costs nothing. The first address that answers decides; only unreachable ones are
 * passed over.
 */
export interface EnrollOptions {
	readonly directory: string;
	/** The whole string; from a file or standard input, never from argv. */
	readonly token: string;
	/** host:port of enrollment listeners. */
	readonly addresses: readonly string[];
	readonly facts: MessageInitShape<typeof HardwareFactsSchema>;
	readonly agentVersion: string;
	readonly clock: Clock;
	readonly rng: Rng;
	readonly log: Logger;
	/** Replaces the identity that is there; without it ALREADY_EXISTS. */
	readonly replace?: boolean;
}

export async function enroll(options: EnrollOptions): Promise<StoredIdentity> {
	const parsed = parseJoinToken(options.token);
	if (parsed.kind === 'refused') {
		throw new GpuaasError({ code: 'INVALID_ARGUMENT', reason: parsed.reason, message: parsed.message });
	}
	const { id, secret, caPins, trustDomain } = parsed.token;
	const folder = new IdentityFolder(options.directory, options.rng);
	const present = folder.readState();
	if (present !== undefined && options.replace !== true) throw alreadyEnrolled(present);
	const key = pendingKey(folder, `token/${id}`);
	return await firstReachable(options.addresses, async (address) => {
		const rootsPem = await findPinnedRoot(address, trustDomain, caPins);
		const issued = await exchange({ address, trustDomain, rootsPem }, key, options, {
			named: id,
			signer: joinTokenSigner(secret),
			credential: (signature) => ({ case: 'joinToken', value: { tokenId: id, signature } }),
		});
		folder.writeState({
			format: STATE_FORMAT,
			nodeId: issued.nodeId,
			nodeName: issued.nodeName,
			generation: issued.generation,
			trustDomain,
			gateways: issued.gateways,
			enrollAddresses: options.addresses,
			bundle: toBase64(issued.bundle),
			current: storedCredential({ ...issued, keyPem: key.privateKeyPem }),
			candidate: null,
		});
		folder.clearPendingKey();
		const state = folder.readState();
		if (state === undefined) throw new Error(`${folder.path} lost what was just written to it`);
		options.log.info('enrolled', { node: issued.nodeId, name: issued.nodeName, generation: issued.generation });
		return new StoredIdentity(folder, state);
	});
}

export function alreadyEnrolled(as: { readonly nodeName: string; readonly trustDomain: string }): GpuaasError {
	return new GpuaasError({
		code: 'ALREADY_EXISTS',
		reason: 'ALREADY_EXISTS',
		message: `this host is node ${as.nodeName} of ${as.trustDomain} already and nothing was changed; to make it another node, stop its agent, move its data folder away and enroll again`,
	});
}

export interface RecoverOptions {
	readonly identity: StoredIdentity;
	readonly facts: MessageInitShape<typeof HardwareFactsSchema>;
	readonly agentVersion: string;
	readonly log: Logger;
}

/** A new certificate for a node whose own has expired. Resolves with the control plane's time. */
export async function recover(options: RecoverOptions): Promise<{ readonly serverTimeMs: number }> {
	const { identity } = options;
	const joinState = identity.joinState();
	const folder = identity.folder();
	const key = pendingKey(folder, `recovery/${identity.credential().serial}`);
	return await firstReachable(identity.enrollAddresses, async (address) => {
		const { trustDomain } = identity;
		const peer = { address, trustDomain, rootsPem: identity.bundle().rootsPem };
		const issued = await exchange(peer, key, options, {
			named: joinState,
			signer: identity.key().signer,
			credential: (signature) => ({ case: 'joinState', value: { joinState, signature } }),
		});
		identity.storeBundle(issued.bundle);
		identity.storeRenewal({ ...issued, keyPem: key.privateKeyPem });
		folder.clearPendingKey();
		options.log.warn('recovered from an expired certificate', { node: identity.nodeId });
		return { serverTimeMs: issued.serverTime === undefined ? 0 : timestampMs(issued.serverTime) };
	});
}

interface Proof {
	/** What the transcript names: token id or join state. */
	readonly named: string;
	readonly signer: SyncSigner;
	readonly credential: (
		signature: Uint8Array,
	) => NonNullable<
		Extract<MessageInitShape<typeof BeginEnrollmentRequestSchema>, { credential?: unknown }>['credential']
	>;
}

async function exchange(
	peer: EnrollPeer,
	key: NodeKey,
	{ facts, agentVersion }: Pick<EnrollOptions, 'facts' | 'agentVersion'>,
	proof: Proof,
): Promise<CompleteEnrollmentResponse> {
	using connection = await EnrollConnection.open(peer);
	const { exporter, replicaIssuerKeyId } = connection;
	const csr = createCsr(key.signer);
	const transcript = enrollHelloTranscript({ exporter, tokenId: proof.named, csrDer: csr });
	const credential = proof.credential(proof.signer.signSync(transcript));
	const method = EnrollmentService.method;
	const challenge = await connection.call(method.beginEnrollment, { credential, csr, facts, agentVersion });
	const spkiSha256 = new Uint8Array(Buffer.from(key.signer.keyId, 'hex'));
	const digest = enrollProofDigest({ nonce: challenge.nonce, exporter, spkiSha256 });
	const issued = await connection.call(method.completeEnrollment, {
		challengeId: challenge.challengeId,
		signature: proof.signer.signSync(digest),
	});
	checkIssued(issued, { trustDomain: peer.trustDomain, keyId: key.signer.keyId, replicaIssuerKeyId });
	return issued;
}

/** The key of an earlier try of the same purpose, or a new one, durable before it is used. */
function pendingKey(folder: IdentityFolder, purpose: string): NodeKey {
	const stored = folder.readPendingKey(purpose);
	if (stored !== undefined) return loadNodeKey(stored);
	const key = generateNodeKey();
	folder.writePendingKey({ purpose, keyPem: key.privateKeyPem });
	return key;
}

async function firstReachable<T>(addresses: readonly string[], use: (address: string) => Promise<T>): Promise<T> {
	let last: unknown = new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'CONFIG_INVALID',
		message: 'no enrollment address is configured; give the host:port of the enrollment listener',
	});
	for (const address of addresses) {
		try {
			return await use(address);
		} catch (error) {
			if (!(error instanceof GpuaasError) || error.reason !== 'UNREACHABLE') throw error;
			last = error;
		}
	}
	throw last;
}
