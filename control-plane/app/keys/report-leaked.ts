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
			if (keyId !== undefined) deps.bus.publish({ topic: KEY_LEAKED, key: keyId });
		}
		return create(ReportLeakedKeyResponseSchema);
	},
});

/**
 * Who hears of it: reconcilers/terminals ends at once what was opened with the key, the operations page counts it
 * (leak-count.ts), its owner reads of it in the list of keys, and its organizations in their audit logs.
 */
export const KEY_LEAKED = 'iam.key_leaked';
/** Of a person's key, which reaches wherever they belong; few belong to more, and of those the platform is told. */
const ORGANIZATIONS_TOLD_MAX = 4;

/** Undefined: another report, or its owner, was there first. */
function* revokeLeaked(
	tx: Tx,
	call: Call<unknown>,
	credential: CredentialRow,
	eventId: string,
): Plan<string | undefined> {
	const { deps, ctx, nowMs } = call;
	yield* tx.access.lockPolicy();
	const key = credential.keyId === null ? undefined : yield* tx.apiKeys.get(credential.keyId);
	if (key !== undefined && key.revokedAtMs === null) yield* revoke(tx, key, nowMs, 'reported as leaked');
	else if (key !== undefined || !(yield* tx.apiKeys.revokeCredential(credential.id, nowMs))) return undefined;
	const principal = yield* tx.identities.getPrincipal(credential.principalId);
	const keyId = key?.id ?? credential.id;
	// Of a service account: who answers for it.
	const owner = principal?.ownerId ?? credential.principalId;
	const { organizations, leftOut } = yield* organizationsOf(tx, call, principal);
	for (const organization of organizations)
		yield* deps.appendAudit(tx, ctx, {
			action: 'keys.leaked',
			target: `keys/${keyId}`,
			result: 'ok',
			reason: '',
			organization,
			detail: {
				...{ principal: credential.principalId, credential: credential.id, owner },
				// How many others there are is no organization's business.
				...(organization === '' && leftOut > 0 ? { organizations_not_told: leftOut } : {}),
			},
		});
	yield* tx.outbox.append({ id: eventId, topic: KEY_LEAKED, key: keyId, atMs: nowMs });
	deps.log.warn('an API key was reported as leaked and is revoked', { credential: credential.id });
	return keyId;
}

/**
 * In whose logs it belongs. In the platform's, which is the empty one, too, where it reaches the platform, no tenant, or
 * more tenants than are told.
 */
function* organizationsOf(
	tx: Tx,
	{ deps, nowMs }: Pick<Call<unknown>, 'deps' | 'nowMs'>,
	principal: PrincipalRow | undefined,
): Plan<{ readonly organizations: readonly string[]; readonly leftOut: number }> {
	if (principal === undefined || (principal.organization ?? '') !== '')
		return { organizations: [principal?.organization ?? ''], leftOut: 0 };
	const view = yield* deps.policies.inUnit(tx);
	const { organizations, isOfPlatform } = yield* view.access(tx, principal.id, nowMs);
	const told = organizations.slice(0, ORGANIZATIONS_TOLD_MAX);
	const leftOut = organizations.length - told.length;
	return { organizations: isOfPlatform || leftOut > 0 || told.length === 0 ? ['', ...told] : told, leftOut };
}
