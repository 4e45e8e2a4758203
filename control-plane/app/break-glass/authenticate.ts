import type { Clock } from '../../../kit/clock.ts';
import { GpuaasError } from '../../../kit/error.ts';
import type { Store } from '../../store/port/store.ts';
import type { Authenticator, PresentedRequest } from '../iam/authenticate.ts';
import type { PolicyCache } from '../iam/policy-view.ts';
import { loadActor, type PrincipalActor } from '../iam/principal.ts';
import { breakGlassKeySha256 } from './complete.ts';
import { BREAK_GLASS_PRINCIPAL_ID, breakGlassPermissions } from './rules.ts';

/** Credentials of an open break-glass: for an hour at most, from the address that opened it, and asked anew each time. */
export class BreakGlassAuthenticator implements Authenticator {
	readonly #deps: { readonly store: Store; readonly clock: Clock; readonly policies: PolicyCache };

	constructor(deps: { readonly store: Store; readonly clock: Clock; readonly policies: PolicyCache }) {
		this.#deps = deps;
	}

	async authenticate(authorization: string | null, { peer }: PresentedRequest): Promise<PrincipalActor> {
		const text = /^Bearer (gpu_bg_[A-Za-z0-9_-]{43})$/i.exec(authorization ?? '')?.[1];
		const { store, clock, policies } = this.#deps;
		const nowMs = clock.now();
		const actor = await store.read(function* (tx) {
			const grant = text === undefined ? undefined : yield* tx.breakGlass.getGrantBySecret(breakGlassKeySha256(text));
			const isOpen = grant?.endedAtMs === null && grant.expiresAtMs !== null && nowMs < grant.expiresAtMs;
			if (grant === undefined || !isOpen || grant.peer !== peer) return undefined;
			const principal = yield* tx.identities.getPrincipal(BREAK_GLASS_PRINCIPAL_ID);
			if (principal === undefined) return undefined;
			const limits = { permissions: breakGlassPermissions(), scope: '', cidrs: [] };
			const credential = { kind: 'break_glass', id: grant.id, expiresAtMs: grant.expiresAtMs, limits } as const;
			return yield* loadActor(tx, yield* policies.committed(tx), principal, credential, nowMs);
		});
		if (actor !== undefined) return actor;
		throw new GpuaasError({
			code: 'UNAUTHENTICATED',
			reason: 'BREAK_GLASS_INVALID',
			message: 'this break-glass credential is unknown, over, or used from another address than it was opened from',
		});
	}
}
