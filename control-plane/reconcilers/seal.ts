import type { Clock, Timer } from '../../kit/clock.ts';
import type { HeadKeeper } from '../app/audit/head-keeper.ts';
import { AUDIT_WAITING, AuditSequencer, type SequencerOptions } from '../app/audit/sequencer.ts';

/**
 * When audit heads are signed: every second when there is something new, more often under load, and within a few ms of
 * a privileged call that waits for one; calls that wait together share one head. Rounds never overlap. Losing a hint
 * costs latency: the timer looks anyway.
 */
const PERIOD_MS = 1000;
/** After a round that found whole batches. */
const BUSY_PERIOD_MS = 20;
/** From the first waiting call to the round that serves it, so that others can join. */
const GROUPING_MS = 5;

export class SealReconciler implements HeadKeeper, AsyncDisposable {
	readonly #sequencer: AuditSequencer;
	readonly #clock: Clock;
	readonly #unsubscribe: () => void;
	#timer: Timer | undefined;
	#dueMs = Number.POSITIVE_INFINITY;
	#running: Promise<void> | undefined;
	#isWanted = false;
	#closed = false;

	private constructor(options: SequencerOptions) {
		this.#sequencer = new AuditSequencer(options);
		this.#clock = options.clock;
		this.#unsubscribe = options.bus.subscribe(AUDIT_WAITING, () => this.#want());
	}

	/**
	 * Resolves after the first round. A log that can't be continued doesn't stop the process: reads go on, privileged
	 * calls are refused, and the log says why.
	 */
	static async open(options: SequencerOptions): Promise<SealReconciler> {
		const reconciler = new SealReconciler(options);
		await reconciler.#run();
		return reconciler;
	}

	latest(): string {
		return this.#sequencer.latest();
	}

	covered(leafId: string): Promise<void> {
		return this.#sequencer.covered(leafId);
	}

	assertSigning(): void {
		this.#sequencer.assertSigning();
	}

	witness(note: string): void {
		this.#sequencer.witness(note);
		// Soon, and not with the next tick: until then privileged calls would go through.
		if (this.#sequencer.hasWitnessed) this.#want();
	}

	async [Symbol.asyncDispose](): Promise<void> {
		if (this.#closed) return;
		this.#closed = true;
		this.#unsubscribe();
		this.#timer?.cancel();
		await this.#running;
		// What was recorded while stopping is covered too.
		await this.#sequencer.round();
		await this.#sequencer.close();
	}

	#want(): void {
		if (this.#running !== undefined) this.#isWanted = true;
		else this.#arm(GROUPING_MS);
	}

	/** Never later than what is already due. */
	#arm(delayMs: number): void {
		const dueMs = this.#clock.monotonic() + delayMs;
		if (this.#closed || dueMs >= this.#dueMs) return;
		this.#timer?.cancel();
		this.#dueMs = dueMs;
		this.#timer = this.#clock.setTimer(() => void this.#run(), delayMs);
	}

	#run(): Promise<void> {
		this.#running ??= this.#pass().finally(() => {
			this.#running = undefined;
			// Whoever asked when the pass had looked for the last time would wait for the next tick.
			if (this.#isWanted) this.#arm(GROUPING_MS);
		});
		return this.#running;
	}

	async #pass(): Promise<void> {
		this.#dueMs = Number.POSITIVE_INFINITY;
		this.#isWanted = false;
		const { isBusy } = await this.#sequencer.round();
		this.#arm(this.#isWanted ? GROUPING_MS : isBusy ? BUSY_PERIOD_MS : PERIOD_MS);
	}
}
