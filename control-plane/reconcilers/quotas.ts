import { every, type Timer } from '../../kit/clock.ts';
import { uuidv7 } from '../../kit/ids.ts';
import type { AppendAudit } from '../app/audit/event.ts';
import type { AppDeps } from '../app/deps.ts';
import type { FeatureGates } from '../app/features/gates.ts';
import { isHeld } from '../app/quotas/is-held.ts';
import { releaseQuota } from '../app/quotas/reserve.ts';
import { nearLimit } from '../app/quotas/warn.ts';
import { systemContext } from '../context.ts';
import type { QuotaReservationRow, QuotaRow } from '../store/port/quotas.ts';

/**
 * What time and accidents leave behind in quotas: reservations past their end are released, and so is what a holder has
 * that is over, should whoever ended it have forgotten to give it back. Takes no input, is idempotent, does a bounded
 * amount at a time; each unit looks again. Where the feature is on it also records, once, that an organization has used
 * most of a limit.
 */
export interface QuotaReconcilerDeps extends AppDeps {
	readonly appendAudit: AppendAudit;
	readonly features: FeatureGates;
}

const PERIOD_MS = 5000;
const BATCH = 500;

export class QuotaReconciler implements AsyncDisposable {
	readonly #deps: QuotaReconcilerDeps;
	readonly #timer: Timer;
	#running: Promise<void> | undefined;
	/** Where the look at holders goes on. */
	#after = { kind: '', holder: '' };
	/** `scope kind` of what was said already, and is still so. */
	readonly #warned = new Set<string>();

	constructor(deps: QuotaReconcilerDeps, options: { readonly periodMs?: number } = {}) {
		this.#deps = deps;
		const onError = (error: unknown) => deps.log.error('quotas were not looked after; it is tried again', { error });
		const activate = () => {
			this.#running ??= this.once()
				.catch(onError)
				.finally(() => {
					this.#running = undefined;
				});
		};
		this.#timer = every(deps.clock, options.periodMs ?? PERIOD_MS, activate, onError);
	}

	/** One activation. */
	async once(): Promise<void> {
		await this.#releaseExpired();
		await this.#releaseOrphans();
		await this.#warn();
	}

	/** By the store's clock: a replica whose own is ahead would release what lives. One that fails keeps no other back. */
	async #releaseExpired(): Promise<void> {
		const { store, log } = this.#deps;
		const nowMs = await store.now();
		for (const row of await store.read((tx) => tx.quotas.listExpired(nowMs, BATCH))) {
			const { kind, holder } = row;
			try {
				if (await this.#releaseOne(row, nowMs)) log.info('a quota reservation ended and is released', { kind, holder });
			} catch (error) {
				log.error('a quota reservation that ended could not be released', { kind, holder, error });
			}
		}
	}

	async #releaseOne({ kind, holder }: QuotaReservationRow, nowMs: number): Promise<boolean> {
		return await this.#deps.store.unit(function* (tx) {
			const [row] = yield* tx.quotas.reservations(kind, [holder]);
			// Committed or lengthened since.
			if (row === undefined || row.expiresAtMs === null || row.expiresAtMs > nowMs) return false;
			if (row.state === 'committed' && (yield* isHeld(tx, row, nowMs))) return false;
			yield* releaseQuota(tx, kind, [holder]);
			return true;
		});
	}

	/** A page of all reservations each time, so that all of them are looked at again and again. */
	async #releaseOrphans(): Promise<void> {
		const { store } = this.#deps;
		const after = this.#after;
		const nowMs = await store.now();
		const { rows, orphans } = await store.read(function* (tx) {
			const rows = yield* tx.quotas.listReservations(after, BATCH);
			const orphans: QuotaReservationRow[] = [];
			for (const row of rows) if (!(yield* isHeld(tx, row, nowMs))) orphans.push(row);
			return { rows, orphans };
		});
		const last = rows.at(-1);
		this.#after = rows.length < BATCH || last === undefined ? { kind: '', holder: '' } : last;
		for (const orphan of orphans) {
			try {
				await this.#releaseOrphan(orphan, nowMs);
			} catch (error) {
				const { kind, holder } = orphan;
				this.#deps.log.error('a quota reservation that nobody holds could not be released', { kind, holder, error });
			}
		}
	}

	async #releaseOrphan(orphan: QuotaReservationRow, nowMs: number): Promise<void> {
		const { kind, holder, organization, scope, amount } = orphan;
		const { store, clock, rng, log, appendAudit } = this.#deps;
		const ctx = systemContext('reconciler/quotas', clock, log, uuidv7(clock.now(), rng));
		const released = await store.unit(function* (tx) {
			const [row] = yield* tx.quotas.reservations(kind, [holder]);
			if (row === undefined || (yield* isHeld(tx, row, nowMs))) return false;
			yield* releaseQuota(tx, kind, [holder]);
			yield* appendAudit(tx, ctx, {
				action: 'quotas.repair',
				target: `${scope}/quotas/${kind}`,
				result: 'ok',
				reason: '',
				organization,
				detail: { holder, amount },
			});
			return true;
		});
		if (released) log.error('something was over and still counted; its quota is released', { kind, holder, scope });
	}

	async #warn(): Promise<void> {
		const { store, features } = this.#deps;
		if (!(await this.#isMine())) return;
		const seen = new Set<string>();
		for (let after = { scope: '', kind: '' }; ; ) {
			const page = await store.read((tx) => tx.quotas.listLimited(after, BATCH));
			for (const row of page.filter(nearLimit)) {
				const { scope, kind } = row;
				if (!(await features.isOn('quota-warnings', { scopes: [scope, 'platform'], key: scope }))) continue;
				const name = `${scope} ${kind}`;
				seen.add(name);
				if (this.#warned.has(name)) continue;
				await this.#record(row);
				// At once: whatever fails after it is no reason to say it again.
				this.#warned.add(name);
			}
			const last = page.at(-1);
			if (page.length < BATCH || last === undefined) break;
			after = last;
		}
		for (const name of this.#warned) if (!seen.has(name)) this.#warned.delete(name);
	}

	async #record({ scope, kind, organization, used, reserved, limitMax }: QuotaRow): Promise<void> {
		const { store, clock, rng, log, appendAudit } = this.#deps;
		const ctx = systemContext('reconciler/quotas', clock, log, uuidv7(clock.now(), rng));
		const detail = { used, reserved, limit: limitMax ?? 0 };
		const target = `${scope}/quotas/${kind}`;
		await store.unit((tx) =>
			appendAudit(tx, ctx, { action: 'quotas.warn', target, result: 'ok', reason: '', organization, detail }),
		);
		log.warn('most of a limit is used', { scope, kind, ...detail });
	}

	/** One replica warns; another only once this one has gone. */
	async #isMine(): Promise<boolean> {
		const { store, replicaId } = this.#deps;
		const nowMs = await store.now();
		return await store.unit((tx) => tx.leases.acquire('quota-warnings', replicaId, nowMs, nowMs + 6 * PERIOD_MS));
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#timer.cancel();
		await this.#running;
	}
}
