import { create } from '@bufbuild/protobuf';
import { uuidv7 } from '../../../kit/ids.ts';
import {
	CreateKeyResponseSchema,
	KeyService,
	ListKeysRequestSchema,
	ListKeysResponseSchema,
	RevokeKeyResponseSchema,
	RotateKeyResponseSchema,
} from '../../../proto/gen/gpuaas/iam/v1/keys_pb.ts';
import type { ApiKeyRow } from '../../store/port/api-keys.ts';
import type { PrincipalRow } from '../../store/port/identities.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { Gate } from '../gates.ts';
import { changed } from '../iam/change.ts';
import { assertCidrs } from '../iam/cidr.ts';
import { assertHoldsBindings, granterOf } from '../iam/grants.ts';
import { heldBindings } from '../iam/held-bindings.ts';
import type { CheckedPolicy } from '../iam/method-policy.ts';
import { notFound } from '../iam/not-found.ts';
import type { TargetOf } from '../iam/target.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { namedPrincipal } from '../principals/named.ts';
import { mutation, query } from '../use-case.ts';
import { assertKnownPermissions, assertNotRevoked, reachOf } from './checks.ts';
import { extendForKey, takeForKey } from './counted.ts';
import { assertKeyScope } from './reach.ts';
import { addVersion, revoke } from './rotation.ts';
import { mintSecret } from './secret.ts';
import { keyFacts, keyMessage, keyName } from './view.ts';

/** What a key gives is said by the request; asked of it in `apply`. */
const HOLDS_WHAT_IT_GIVES: Gate<'scope'> = {
	gate: 'grant',
	*check(tx, { target, policy }) {
		yield* namedPrincipal(tx, policy, target, 'service_account');
		return { notAsked: 'a key that gives more than they hold would be refused (GRANT_EXCEEDS_OWN)' };
	},
};

/** Whoever has a service account's key can do what the account can: so making one takes whoever holds all of that. */
export const createKey = mutation('scope', KeyService.method.createKey, {
	gates: [HOLDS_WHAT_IT_GIVES],
	prepare(call) {
		assertCidrs(call.request.cidrs);
		assertKnownPermissions(call.request.permissions);
		return { id: uuidv7(call.nowMs, call.deps.rng), minted: mintSecret(call, 'sk', call.request.ttl) };
	},
	*apply(tx, call, target, { id, minted }) {
		const { request, nowMs, ctx, policy } = call;
		const granter = yield* granterOf(tx, call);
		const account = yield* namedPrincipal(tx, policy, target, 'service_account');
		yield* assertHoldsBindings(tx, granter, yield* heldBindings(tx, account.id), reachOf(request));
		yield* assertKeyScope(tx, granter, request.scope, { nowMs, organization: account.organization });
		const key: ApiKeyRow = {
			id,
			principalId: account.id,
			displayName: request.displayName,
			permissions: [...request.permissions],
			scope: request.scope,
			cidrs: [...request.cidrs],
			createdAtMs: nowMs,
			createdBy: ctx.actor.id,
			revokedAtMs: null,
			revokedReason: '',
			version: 1,
		};
		yield* tx.apiKeys.insert(key);
		const secret = minted.row(account.id, id);
		yield* tx.apiKeys.insertCredential(secret);
		yield* takeForKey(tx, account, id, secret.expiresAtMs, nowMs);
		const [facts] = yield* keyFacts(tx, [key]);
		const message = facts === undefined ? {} : { key: keyMessage(facts, account, nowMs) };
		const response = create(CreateKeyResponseSchema, { ...message, secret: minted.text });
		return changed(response, 'keys.create', keyName(key, account), account.organization ?? '');
	},
});

export const listKeys = query('scope', KeyService.method.listKeys, {
	*read(tx, call, target) {
		const page = pageOf(call, ListKeysRequestSchema);
		const account = yield* namedPrincipal(tx, call.policy, target, 'service_account');
		const keys = yield* tx.apiKeys.list({ ...page, principalIds: [account.id] });
		return { facts: yield* keyFacts(tx, keys), account, page };
	},
	answer: (call, { facts, account, page }) =>
		create(ListKeysResponseSchema, {
			keys: facts.map((one) => keyMessage(one, account, call.nowMs)),
			nextPageToken: nextPageToken(page, facts.at(-1)?.key.id, facts.length),
		}),
});

/** Throws GRANT_EXCEEDS_OWN. */
const HOLDS_AS_MUCH: Gate<'scope'> = {
	gate: 'grant',
	*check(tx, { target, policy, granter }) {
		const { key, account } = yield* keyAt(tx, policy, target);
		yield* assertHoldsBindings(tx, yield* granter(tx), yield* heldBindings(tx, account.id), reachOf(key));
		return 'they hold all that the key gives';
	},
};

/** Throws KEY_REVOKED. */
const NOT_REVOKED: Gate<'scope'> = {
	gate: 'key',
	*check(tx, { target, policy }) {
		assertNotRevoked((yield* keyAt(tx, policy, target)).key);
		return 'the key is not revoked';
	},
};

export const rotateKey = mutation('scope', KeyService.method.rotateKey, {
	gates: [HOLDS_AS_MUCH, NOT_REVOKED],
	prepare: (call) => mintSecret(call, 'sk', call.request.ttl),
	*apply(tx, call, target, minted) {
		const { request, nowMs, policy } = call;
		const { key, account } = yield* keyAt(tx, policy, target);
		yield* addVersion(tx, key, minted, { etag: request.etag, overlap: request.overlap, nowMs });
		yield* extendForKey(tx, account, key.id, nowMs);
		const response = create(RotateKeyResponseSchema, {
			...(yield* shown(tx, key, account, nowMs)),
			secret: minted.text,
		});
		return changed(response, 'keys.rotate', keyName(key, account), account.organization ?? '');
	},
});

export const revokeKey = mutation('scope', KeyService.method.revokeKey, {
	prepare: () => undefined,
	*apply(tx, { request, nowMs, policy }, target) {
		const { key, account } = yield* keyAt(tx, policy, target);
		yield* revoke(tx, key, nowMs, request.reason);
		const response = create(RevokeKeyResponseSchema, yield* shown(tx, key, account, nowMs));
		return changed(response, 'keys.revoke', keyName(key, account), account.organization ?? '');
	},
});

function* keyAt(
	tx: Tx,
	policy: CheckedPolicy,
	{ scope, collection, id }: TargetOf['scope'],
): Plan<{ readonly key: ApiKeyRow; readonly account: PrincipalRow }> {
	const key = collection === 'keys' ? yield* tx.apiKeys.get(id) : undefined;
	const account = key === undefined ? undefined : yield* tx.identities.getPrincipal(key.principalId);
	if (key === undefined || account === undefined || account.home !== scope.name) throw notFound(policy);
	return { key, account };
}

/** As it is in this unit. */
function* shown(tx: Tx, { id }: ApiKeyRow, account: PrincipalRow, nowMs: number) {
	const key = yield* tx.apiKeys.get(id);
	const [facts] = key === undefined ? [] : yield* keyFacts(tx, [key]);
	return facts === undefined ? {} : { key: keyMessage(facts, account, nowMs) };
}
