import { create } from '@bufbuild/protobuf';
import { uuidv7 } from '../../../kit/ids.ts';
import { KeyService, ReportLeakedKeyResponseSchema } from '../../../proto/gen/gpuaas/iam/v1/keys_pb.ts';
import type { CredentialRow } from '../../store/port/api-keys.ts';
import type { PrincipalRow } from '../../store/port/identities.ts';
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
			deps.bus.publish({ topic: KEY_LEAKED, key: keyId });
		}
		return create(ReportLeakedKeyResponseSchema);
	},
});

/**
 * Who hears of it: reconcilers/terminals ends at once what was opened with the key, the operations page counts it
 * (leak-count.ts), its owner reads of it in the list of keys, and its organizations in their audit logs.
 */
export const KEY_LEAKED = 'iam.key_leaked';
/** Of a person's key, which reaches wherever they belong; few belong to more. */
const ORGANIZATIONS_TOLD_MAX = 4;

function* revokeLeaked(tx: Tx, call: Call<unknown>, credential: CredentialRow, eventId: string): Plan<string> {
	const { deps, ctx, nowMs } = call;
	const key = credential.keyId === null ? undefined : yield* tx.apiKeys.get(credential.keyId);
	if (key === undefined) yield* tx.apiKeys.revokeCredential(credential.id, nowMs);
	else yield* revoke(tx, key, nowMs, 'reported as leaked');
	const principal = yield* tx.identities.getPrincipal(credential.principalId);
	const keyId = key?.id ?? credential.id;
	// Of a service account: who answers for it.
	const owner = principal?.ownerId ?? credential.principalId;
	for (const organization of yield* organizationsOf(tx, call, principal))
		yield* deps.appendAudit(tx, ctx, {
			action: 'keys.leaked',
			target: `keys/${keyId}`,
			result: 'ok',
			reason: '',
			organization,
			detail: { principal: credential.principalId, credential: credential.id, owner },
		});
	yield* tx.outbox.append({ id: eventId, topic: KEY_LEAKED, key: keyId, atMs: nowMs });
	deps.log.warn('an API key was reported as leaked and is revoked', { credential: credential.id });
	return keyId;
}

/** In whose logs it belongs; empty, which is the platform's, for a key that reaches no tenant. */
function* organizationsOf(
	tx: Tx,
	{ deps, nowMs }: Pick<Call<unknown>, 'deps' | 'nowMs'>,
	principal: PrincipalRow | undefined,
): Plan<readonly string[]> {
	if (principal === undefined || (principal.organization ?? '') !== '') return [principal?.organization ?? ''];
	const view = yield* deps.policies.inUnit(tx);
	const { organizations } = yield* view.access(tx, principal.id, nowMs);
	return organizations.length === 0 ? [''] : organizations.slice(0, ORGANIZATIONS_TOLD_MAX);
}
