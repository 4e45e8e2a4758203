import { createHash } from 'node:crypto';
import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { Rng } from '../../../kit/ids.ts';
import {
	BreakGlassService,
	type BreakGlassSignature,
	CompleteBreakGlassResponseSchema,
} from '../../../proto/gen/gpuaas/break_glass/v1/break_glass_pb.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { mutation } from '../use-case.ts';
import { keyIdOf } from './keys.ts';
import {
	BREAK_GLASS_PRINCIPAL_ID,
	BREAK_GLASS_ROLE,
	breakGlassInvalid,
	GRANT_TTL_MS,
	KEYS_MAX,
	QUORUM,
} from './rules.ts';
import { judgeSignature } from './signatures.ts';

/** Opens when enough different registered keys signed the one challenge. One bad signature refuses them all. */
export const completeBreakGlass = mutation('platform', BreakGlassService.method.completeBreakGlass, {
	prepare: ({ deps }) => ({ text: mintBreakGlassKey(deps.rng) }),
	*apply(tx, { deps, ctx, request, nowMs }, _target, { text }) {
		const grant = yield* tx.breakGlass.getGrant(request.grantId);
		if (grant === undefined || grant.activatedAtMs !== null || grant.endedAtMs !== null)
			throw breakGlassInvalid('the challenge is unknown, too old, or was answered before');
		if (nowMs >= grant.challengeExpiresAtMs) throw breakGlassInvalid('the challenge has expired');
		if (grant.peer !== ctx.peer) throw breakGlassInvalid('it was begun from another address');
		const signers = yield* judgeAll(tx, grant.challenge, request.signatures);
		const expiresAtMs = nowMs + GRANT_TTL_MS;
		const secretSha256 = breakGlassKeySha256(text);
		yield* tx.breakGlass.activate(grant.id, { signers, secretSha256, activatedAtMs: nowMs, expiresAtMs });
		yield* tx.access.lockPolicy();
		yield* restorePrincipal(tx, nowMs);
		yield* restoreBinding(tx, nowMs);
		deps.log.error('break-glass is open', { grant: grant.id, signers, peer: ctx.peer, reason: grant.reason });
		return {
			response: create(CompleteBreakGlassResponseSchema, { key: text, expiresAt: timestampFromMs(expiresAtMs) }),
			audit: {
				action: 'breakglass.open',
				target: `break-glass/${grant.id}`,
				result: 'ok',
				reason: '',
				detail: { signers: signers.join(' '), why: grant.reason, expires_at_ms: expiresAtMs },
			},
		};
	},
});

function* judgeAll(tx: Tx, challenge: Uint8Array, given: readonly BreakGlassSignature[]): Plan<readonly string[]> {
	const keys = yield* tx.breakGlass.listKeys({ afterId: '', limit: KEYS_MAX });
	const signers = new Set<string>();
	for (const signature of given) {
		const key = keys.find(({ publicKey }) => keyIdOf(publicKey) === signature.keyId);
		if (key === undefined) throw breakGlassInvalid('one of the keys is not registered');
		// Its second signature would be judged by the counter from before the first.
		if (signers.has(key.id))
			throw breakGlassInvalid(`key ${key.name} is named twice; ${QUORUM} different keys must sign`);
		const judged = judgeSignature(key, challenge, signature);
		if (!judged.ok) throw breakGlassInvalid(`key ${key.name}: ${judged.why}`);
		if (judged.signCount > 0 && !(yield* tx.breakGlass.raiseSignCount(key.id, judged.signCount)))
			throw breakGlassInvalid(`key ${key.name}: its counter did not rise, so a copy of it may be in use`);
		signers.add(key.id);
	}
	if (signers.size < QUORUM) throw breakGlassInvalid(`${QUORUM} different keys must sign, not ${signers.size}`);
	return [...signers];
}

/** Each time: whatever happened to it since, the way in works. */
function* restorePrincipal(tx: Tx, nowMs: number): Plan<void> {
	const row = yield* tx.identities.getPrincipal(BREAK_GLASS_PRINCIPAL_ID);
	if (row !== undefined) {
		const back = { disabledAtMs: null, disabledReason: '', deletedAtMs: null };
		if (row.disabledAtMs !== null || row.deletedAtMs !== null) yield* tx.identities.updatePrincipal(row.id, back);
		return;
	}
	yield* tx.identities.insertPrincipal({
		id: BREAK_GLASS_PRINCIPAL_ID,
		kind: 'operator',
		displayName: 'break-glass',
		organization: null,
		home: null,
		name: '',
		email: '',
		ownerId: null,
		createdAtMs: nowMs,
		disabledAtMs: null,
		disabledReason: '',
		deletedAtMs: null,
		version: 1,
	});
}

function* restoreBinding(tx: Tx, nowMs: number): Plan<void> {
	const row = yield* tx.access.findBinding(BREAK_GLASS_PRINCIPAL_ID, BREAK_GLASS_ROLE, 'platform');
	if (row !== undefined) {
		if (row.expiresAtMs === null && row.permissions.length === 0) return;
		yield* tx.access.deleteBinding(row.id);
	}
	yield* tx.access.insertBinding({
		id: BREAK_GLASS_PRINCIPAL_ID,
		principalId: BREAK_GLASS_PRINCIPAL_ID,
		role: BREAK_GLASS_ROLE,
		scope: 'platform',
		permissions: [],
		reason: 'break-glass',
		createdAtMs: nowMs,
		createdBy: BREAK_GLASS_PRINCIPAL_ID,
		expiresAtMs: null,
		version: 1,
	});
}

function mintBreakGlassKey(rng: Rng): string {
	return `gpu_bg_${Buffer.from(rng.bytes(32)).toString('base64url')}`;
}

export function breakGlassKeySha256(text: string): Uint8Array {
	return createHash('sha256').update(text).digest();
}
