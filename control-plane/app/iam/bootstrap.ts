import { uuidv7 } from '../../../kit/ids.ts';
import { type RequestContext, systemContext } from '../../context.ts';
import type { AppendAudit } from '../audit/event.ts';
import type { AppDeps } from '../deps.ts';
import { type ApiKey, macOf, mintApiKey } from './api-key.ts';
import type { PepperRing } from './pepper.ts';

/** Of the one principal that exists before anybody: fixed, so that two replicas starting at once make one. */
export const BOOTSTRAP_PRINCIPAL_ID = 'bootstrap-operator';

const KEY_TTL_MS = 365 * 24 * 3_600_000;

export interface BootstrapOptions {
	readonly pepper: PepperRing;
	readonly environment: string;
	readonly appendAudit: AppendAudit;
	/** A key that was put on disk before, so that a crash in between loses nothing; absent: a new one. */
	readonly minted?: { readonly key: ApiKey; readonly text: string };
}

/**
 * Makes the bootstrap operator with one API key when it isn't there yet, and returns the key's text: once, here, and
 * nowhere else. The main writes it to a file of mode 0600. Undefined when the operator exists.
 */
export async function bootstrapOperator(
	deps: Pick<AppDeps, 'store' | 'clock' | 'rng' | 'log'>,
	options: BootstrapOptions,
): Promise<string | undefined> {
	const { store, clock, rng } = deps;
	const nowMs = clock.now();
	const { key, text } = options.minted ?? mintApiKey('uk', options.environment, rng);
	const bindingId = uuidv7(nowMs, rng);
	const ctx: RequestContext = systemContext('bootstrap', clock, deps.log, uuidv7(nowMs, rng));
	const made = await store.unit(function* (tx) {
		if ((yield* tx.identities.getPrincipal(BOOTSTRAP_PRINCIPAL_ID)) !== undefined) return false;
		yield* tx.identities.insertPrincipal({
			id: BOOTSTRAP_PRINCIPAL_ID,
			kind: 'operator',
			displayName: 'bootstrap operator',
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
		yield* tx.apiKeys.insertCredential({
			id: key.id,
			principalId: BOOTSTRAP_PRINCIPAL_ID,
			keyId: null,
			mac: macOf(key, options.pepper.current),
			pepperVersion: options.pepper.currentVersion,
			createdAtMs: nowMs,
			expiresAtMs: nowMs + KEY_TTL_MS,
			revokedAtMs: null,
		});
		yield* tx.access.insertBinding({
			id: bindingId,
			principalId: BOOTSTRAP_PRINCIPAL_ID,
			role: 'platform.operator',
			scope: 'platform',
			permissions: [],
			reason: 'first start',
			createdAtMs: nowMs,
			createdBy: BOOTSTRAP_PRINCIPAL_ID,
			expiresAtMs: null,
			version: 1,
		});
		yield* options.appendAudit(tx, ctx, {
			action: 'identities.bootstrap',
			target: `principals/${BOOTSTRAP_PRINCIPAL_ID}`,
			result: 'ok',
			reason: '',
			detail: { credential: key.id, role: 'platform.operator' },
		});
		return true;
	});
	return made ? text : undefined;
}
