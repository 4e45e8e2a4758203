import { create } from '@bufbuild/protobuf';
import { GpuaasError } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import {
	CreateMyKeyResponseSchema,
	KeyService,
	ListMyKeysRequestSchema,
	ListMyKeysResponseSchema,
	RevokeMyKeyResponseSchema,
	RotateMyKeyResponseSchema,
} from '../../../proto/gen/gpuaas/iam/v1/keys_pb.ts';
import type { ApiKeyRow } from '../../store/port/api-keys.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { Gate } from '../gates.ts';
import { changed } from '../iam/change.ts';
import { assertCidrs } from '../iam/cidr.ts';
import { granterOf } from '../iam/grants.ts';
import type { PrincipalActor } from '../iam/principal.ts';
import { assertRoomFor } from '../iam/room.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { lockPolicy, mutation, query } from '../use-case.ts';
import { assertKnownPermissions } from './checks.ts';
import { assertKeyScope, assertWithinOwn, reachOfNew } from './reach.ts';
import { addVersion, revoke } from './rotation.ts';
import { mintSecret } from './secret.ts';
import { keyFacts, keyMessage } from './view.ts';

/** A person's own keys: they can do what the person can, within the key's limits, and never step up. */
const NOWHERE = { home: null } as const;

/** Throws TOO_MANY_KEYS. */
const ROOM: Gate<'self'> = {
	gate: 'room',
	*check(tx, { actor, nowMs }) {
		return assertRoomFor('ownKey', yield* tx.apiKeys.countLive(actor.id, nowMs, ''));
	},
};

export const createMyKey = mutation('self', KeyService.method.createMyKey, {
	gates: [ROOM],
	lock: lockPolicy,
	prepare(call) {
		const { request, ctx } = call;
		assertCidrs(request.cidrs);
		assertKnownPermissions(request.permissions);
		assertPerson(ctx.actor);
		return { id: uuidv7(call.nowMs, call.deps.rng), minted: mintSecret(call, 'uk', request.ttl) };
	},
	*apply(tx, call, _target, { id, minted }) {
		const { request, nowMs, ctx } = call;
		const granter = yield* granterOf(tx, call);
		yield* assertKeyScope(tx, granter, request.scope, { nowMs, organization: null });
		const key: ApiKeyRow = {
			id,
			principalId: ctx.actor.id,
			displayName: request.displayName,
			...(yield* reachOfNew(tx, granter, request)),
			createdAtMs: nowMs,
			createdBy: ctx.actor.id,
			revokedAtMs: null,
			revokedReason: '',
			version: 1,
		};
		yield* tx.apiKeys.insert(key);
		yield* tx.apiKeys.insertCredential(minted.row(ctx.actor.id, id));
		const response = create(CreateMyKeyResponseSchema, { ...(yield* shown(tx, key, nowMs)), secret: minted.text });
		return changed(response, 'keys.create', `keys/${id}`, '');
	},
});

export const listMyKeys = query('self', KeyService.method.listMyKeys, {
	*read(tx, call) {
		const page = pageOf(call, ListMyKeysRequestSchema);
		const keys = yield* tx.apiKeys.list({ ...page, principalIds: [call.ctx.actor.id] });
		return { facts: yield* keyFacts(tx, keys), page };
	},
	answer: (call, { facts, page }) =>
		create(ListMyKeysResponseSchema, {
			keys: facts.map((one) => keyMessage(one, NOWHERE, call.nowMs)),
			nextPageToken: nextPageToken(page, facts.at(-1)?.key.id, facts.length),
		}),
});

export const rotateMyKey = mutation('self', KeyService.method.rotateMyKey, {
	prepare(call) {
		assertPerson(call.ctx.actor);
		return mintSecret(call, 'uk', call.request.ttl);
	},
	lock: lockPolicy,
	*apply(tx, call, _target, minted) {
		const { request, nowMs, ctx } = call;
		const granter = yield* granterOf(tx, call);
		const key = yield* mine(tx, ctx.actor.id, request.keyId);
		yield* assertWithinOwn(tx, granter, key);
		// One that had ended lives again.
		assertRoomFor('ownKey', yield* tx.apiKeys.countLive(key.principalId, nowMs, key.id));
		yield* addVersion(tx, key, minted, { etag: request.etag, overlap: request.overlap, nowMs });
		const response = create(RotateMyKeyResponseSchema, { ...(yield* shown(tx, key, nowMs)), secret: minted.text });
		return changed(response, 'keys.rotate', `keys/${key.id}`, '');
	},
});

export const revokeMyKey = mutation('self', KeyService.method.revokeMyKey, {
	prepare: () => undefined,
	lock: lockPolicy,
	*apply(tx, call) {
		const { request, nowMs, ctx } = call;
		const granter = yield* granterOf(tx, call);
		const key = yield* mine(tx, ctx.actor.id, request.keyId);
		// Whoever found a key of little reach can end that one, and none that reaches further.
		if (!(yield* isInUse(tx, key, ctx.actor))) yield* assertWithinOwn(tx, granter, key);
		yield* revoke(tx, key, nowMs, request.reason);
		const response = create(RevokeMyKeyResponseSchema, yield* shown(tx, key, nowMs));
		return changed(response, 'keys.revoke', `keys/${key.id}`, '');
	},
});

function* isInUse(tx: Tx, { id }: ApiKeyRow, { credentialKind, credentialId }: PrincipalActor): Plan<boolean> {
	return credentialKind === 'api_key' && (yield* tx.apiKeys.getCredential(credentialId))?.keyId === id;
}

function* mine(tx: Tx, principalId: string, keyId: string): Plan<ApiKeyRow> {
	const key = yield* tx.apiKeys.get(keyId);
	if (key !== undefined && key.principalId === principalId) return key;
	throw new GpuaasError({ code: 'NOT_FOUND', reason: 'NOT_FOUND', message: 'you have no such key; list your keys' });
}

function* shown(tx: Tx, { id }: ApiKeyRow, nowMs: number) {
	const key = yield* tx.apiKeys.get(id);
	const [facts] = key === undefined ? [] : yield* keyFacts(tx, [key]);
	return facts === undefined ? {} : { key: keyMessage(facts, NOWHERE, nowMs) };
}

/** A service account's keys are made and rotated by whoever may act for it, not by the account itself. */
function assertPerson({ kind }: PrincipalActor): void {
	if (kind === 'user' || kind === 'operator') return;
	throw new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'PERMISSION_DENIED',
		message: 'these are keys of people; for a service account use CreateKey (gpuaas key create --service-account)',
	});
}
