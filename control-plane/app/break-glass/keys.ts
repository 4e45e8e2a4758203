import { createHash } from 'node:crypto';
import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { GpuaasError } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import {
	type BreakGlassKey,
	BreakGlassKeyKind,
	BreakGlassKeySchema,
	BreakGlassService,
	ListBreakGlassKeysRequestSchema,
	ListBreakGlassKeysResponseSchema,
	RegisterBreakGlassKeyResponseSchema,
	RemoveBreakGlassKeyResponseSchema,
} from '../../../proto/gen/gpuaas/break_glass/v1/break_glass_pb.ts';
import type { BreakGlassKeyRow } from '../../store/port/break-glass.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { mutation, query } from '../use-case.ts';
import { publicKeyOf } from './signatures.ts';

export const registerBreakGlassKey = mutation('platform', BreakGlassService.method.registerBreakGlassKey, {
	*apply(tx, { deps, ctx, request, nowMs }) {
		const isFido2 = request.kind === BreakGlassKeyKind.FIDO2;
		const type = publicKeyOf(request.publicKey)?.asymmetricKeyType;
		if (type === undefined || (type !== 'ed25519' && !isFido2))
			throw invalid('public_key is no Ed25519 key (or, for a security key, P-256) as SPKI in DER');
		if (isFido2 !== (request.rpId !== '')) throw invalid('rp_id belongs to a FIDO2 key, and only to one');
		const row: BreakGlassKeyRow = {
			id: uuidv7(nowMs, deps.rng),
			name: request.name,
			kind: isFido2 ? 'fido2' : 'ed25519',
			publicKey: request.publicKey,
			rpId: request.rpId,
			signCount: 0,
			createdAtMs: nowMs,
			createdBy: ctx.actor.id,
			removedAtMs: null,
		};
		yield* tx.breakGlass.insertKey(row);
		return {
			response: create(RegisterBreakGlassKeyResponseSchema, { key: keyMessage(row) }),
			audit: {
				action: 'breakglass.register',
				target: `break-glass-keys/${row.id}`,
				result: 'ok',
				reason: '',
				detail: { key_id: keyIdOf(row.publicKey), kind: row.kind },
			},
		};
	},
});

export const removeBreakGlassKey = mutation('platform', BreakGlassService.method.removeBreakGlassKey, {
	*apply(tx, { request, nowMs }) {
		const row = yield* tx.breakGlass.removeKey(request.id, nowMs);
		if (row === undefined) {
			throw new GpuaasError({
				code: 'NOT_FOUND',
				reason: 'NOT_FOUND',
				message: 'there is no such break-glass key; list them to see their ids',
			});
		}
		return {
			response: create(RemoveBreakGlassKeyResponseSchema, {}),
			audit: { action: 'breakglass.remove', target: `break-glass-keys/${row.id}`, result: 'ok', reason: '' },
		};
	},
});

export const listBreakGlassKeys = query('platform', BreakGlassService.method.listBreakGlassKeys, {
	*read(tx, call) {
		const page = pageOf(call, ListBreakGlassKeysRequestSchema);
		return { rows: yield* tx.breakGlass.listKeys(page), page };
	},
	answer: (_call, { rows, page }) =>
		create(ListBreakGlassKeysResponseSchema, {
			keys: rows.map(keyMessage),
			nextPageToken: nextPageToken(page, rows.at(-1)?.id, rows.length),
		}),
});

export function keyIdOf(spki: Uint8Array): string {
	return createHash('sha256').update(spki).digest('hex');
}

function keyMessage(row: BreakGlassKeyRow): BreakGlassKey {
	return create(BreakGlassKeySchema, {
		id: row.id,
		name: row.name,
		kind: row.kind === 'fido2' ? BreakGlassKeyKind.FIDO2 : BreakGlassKeyKind.ED25519,
		keyId: keyIdOf(row.publicKey),
		rpId: row.rpId,
		createdAt: timestampFromMs(row.createdAtMs),
		createdBy: row.createdBy,
	});
}

function invalid(message: string): GpuaasError {
	return new GpuaasError({ code: 'INVALID_ARGUMENT', reason: 'INVALID_REQUEST', message });
}
