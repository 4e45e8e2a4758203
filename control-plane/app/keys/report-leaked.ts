import { create } from '@bufbuild/protobuf';
import { uuidv7 } from '../../../kit/ids.ts';
import { KeyService, ReportLeakedKeyResponseSchema } from '../../../proto/gen/gpuaas/iam/v1/keys_pb.ts';
import type { CredentialRow } from '../../store/port/api-keys.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { macOf, parseApiKey, sameMac } from '../iam/api-key.ts';
import { type Call, query } from '../use-case.ts';
import { revoke } from './rotation.ts';

/**
 * Whoever found a key reports it here; if it is one of ours, and live, it is revoked at once and audited. The answer is
 * the same in every case, so that nothing can be learnt here about keys. A report of what is no live key changes
 * nothing and writes nothing: strangers can't fill the log.
 */
export const reportLeakedKey = query('platform', KeyService.method.reportLeakedKey, {
	*read(tx, { deps, request, nowMs }) {
		const parsed = parseApiKey(request.key.trim());
		const credential = parsed === undefined ? undefined : yield* tx.apiKeys.getCredential(parsed.id);
		if (parsed === undefined || credential === undefined) return undefined;
		const pepper = deps.secrets.ring.of(credential.pepperVersion);
		const isKnown = pepper !== undefined && sameMac(credential.mac, macOf(parsed, pepper));
		return isKnown && credential.revokedAtMs === null && credential.expiresAtMs > nowMs ? credential : undefined;
	},
	async answer(call, credential) {
		if (credential !== undefined) {
			const { deps, nowMs } = call;
			const eventId = uuidv7(nowMs, deps.rng);
			const keyId = await deps.store.unit((tx) => revokeLeaked(tx, call, credential, eventId));
			deps.bus.publish({ topic: LEAKED, key: keyId });
		}
		return create(ReportLeakedKeyResponseSchema);
	},
});

/** For whoever tells people: its owner reads of it in the key's list, and in the audit log of the organization. */
const LEAKED = 'iam.key_leaked';

function* revokeLeaked(
	tx: Tx,
	{ deps, ctx, nowMs }: Call<unknown>,
	credential: CredentialRow,
	eventId: string,
): Plan<string> {
	const key = credential.keyId === null ? undefined : yield* tx.apiKeys.get(credential.keyId);
	if (key === undefined) yield* tx.apiKeys.revokeCredential(credential.id, nowMs);
	else yield* revoke(tx, key, nowMs, 'reported as leaked');
	const principal = yield* tx.identities.getPrincipal(credential.principalId);
	yield* deps.appendAudit(tx, ctx, {
		action: 'keys.leaked',
		target: `keys/${key?.id ?? credential.id}`,
		result: 'ok',
		reason: '',
		organization: principal?.organization ?? '',
		// Of a service account: who answers for it.
		detail: {
			principal: credential.principalId,
			credential: credential.id,
			owner: principal?.ownerId ?? credential.principalId,
		},
	});
	const keyId = key?.id ?? credential.id;
	yield* tx.outbox.append({ id: eventId, topic: LEAKED, key: keyId, atMs: nowMs });
	deps.log.warn('an API key was reported as leaked and is revoked', { credential: credential.id });
	return keyId;
}
