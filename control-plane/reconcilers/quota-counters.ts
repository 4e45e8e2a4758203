import { every, type Timer } from '../../kit/clock.ts';
import { uuidv7 } from '../../kit/ids.ts';
import type { AppendAudit } from '../app/audit/event.ts';
import type { AppDeps } from '../app/deps.ts';
import { correctCounters, type Drift, driftIn } from '../app/quotas/counters.ts';
import { systemContext } from '../context.ts';
import { QUOTA_KINDS, type QuotaKind } from '../store/port/quotas.ts';

/**
 * Compares the counters of quotas with what they count, organization after organization, and corrects them in both
 * directions: one that is too high refuses what there is room for, one that is too low lets in more than the limit. Each
 * correction is a defect of ours: it is in the organization's audit log, counted (`gpuaas_quota_drift_total`) and an error in
 * the log. Takes no input, is idempotent, does a bounded amount at a time; one replica does it. Comparing locks nothing.
 */
export interface QuotaCounterDeps extends AppDeps {
	readonly appendAudit: AppendAudit;
}

const PERIOD_MS = 60_000;
/** Compared in one activation: 10,000 organizations take 50 minutes. */
const ORGANIZATIONS_A_LOOK = 200;

export class QuotaCounterReconciler implements AsyncDisposable {
	/** How many counters were corrected here, by kind: each from 0 on, or the first would be no increase to an alert. */
	readonly corrected = new Map<QuotaKind, number>(QUOTA_KINDS.map((kind) => [kind, 0]));
	readonly #deps: QuotaCounterDeps;
	readonly #timer: Timer;
	#running: Promise<void> | undefined;
	/** Where the next look goes on. */
	#after = '';

	constructor(deps: QuotaCounterDeps, options: { readonly periodMs?: number } = {}) {
		this.#deps = deps;
		const onError = (error: unknown) =>
			deps.log.error('counters of quotas were not compared; it is tried again', { error });
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
		const { store, log } = this.#deps;
		if (!(await this.#isMine())) return;
		const after = this.#after;
		const organizations = await store.read((tx) => tx.quotas.organizations(after, ORGANIZATIONS_A_LOOK));
		this.#after = organizations.length < ORGANIZATIONS_A_LOOK ? '' : (organizations.at(-1) ?? '');
		for (const organization of organizations) {
			try {
				await this.#compare(organization);
			} catch (error) {
				// Of the others none waits for it; it comes again with the next round.
				log.error('the counters of an organization were not compared', { organization, error });
			}
		}
	}

	async #compare(organization: string): Promise<void> {
		const drift = await this.#deps.store.read((tx) => driftIn(tx, organization));
		for (const kind of new Set(drift.map((one) => one.kind))) await this.#correct(organization, kind);
	}

	async #correct(organization: string, kind: QuotaKind): Promise<void> {
		const { store, clock, rng, log, appendAudit } = this.#deps;
		const ctx = systemContext('reconciler/quota-counters', clock, log, uuidv7(clock.now(), rng));
		const corrected = await store.unit(function* (tx) {
			const found = yield* correctCounters(tx, organization, kind);
			for (const { scope, counted, held } of found)
				yield* appendAudit(tx, ctx, {
					action: 'quotas.correct',
					target: `${scope}/quotas/${kind}`,
					result: 'ok',
					reason: '',
					organization,
					detail: detailOf(counted, held),
				});
			return found;
		});
		this.corrected.set(kind, (this.corrected.get(kind) ?? 0) + corrected.length);
		for (const { scope, counted, held } of corrected)
			log.error('a counter of a quota was wrong and is corrected', { scope, kind, ...detailOf(counted, held) });
	}

	/** One replica compares; another only once this one has gone. */
	async #isMine(): Promise<boolean> {
		const { store, replicaId } = this.#deps;
		const nowMs = await store.now();
		return await store.unit((tx) => tx.leases.acquire('quota-counters', replicaId, nowMs, nowMs + 3 * PERIOD_MS));
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#timer.cancel();
		await this.#running;
	}
}

function detailOf(counted: Drift['counted'], held: Drift['held']) {
	return {
		used_was: counted.used,
		used: held.used,
		reserved_was: counted.reserved,
		reserved: held.reserved,
	};
}
