import type { Clock, Timer } from '../../kit/clock.ts';
import { sleep } from '../../kit/clock.ts';
import { messageOf } from '../../kit/error.ts';
import type { Rng } from '../../kit/ids.ts';
import type { Logger } from '../../kit/log.ts';
import { Backoff } from '../../kit/retry.ts';
import { readTrace } from './call-trace.ts';
import { Exchange } from './exchange.ts';
import { CRASHED, NO_KOFFI, type ProbeFinding, type ProbeLimits, type ProbeStateName } from './findings.ts';
import type { PidFile } from './pid-file.ts';
import type { ProbeProcess, StartProbe } from './probe-process.ts';
import { describeEvidence, type ProcessEvidence, readEvidence } from './process-evidence.ts';
import type { GpuInventory, OpenedDriver, ProbeAnswer, ProbeEvent, ProbeFault, ProbeSample } from './protocol.ts';

/**
 * Owns the probe process on the agent's side: starts it, asks it, keeps the deadlines, and starts it again with backoff.
 * Invariants: at most one probe lives, also across restarts of the agent; one that hangs is asked to end, then killed,
 * and until it is gone no other is started; nothing here ever waits for the driver, so a hang costs the agent nothing.
 * States: starting -> running <-> slow -> hung -> restarting -> starting; unavailable while the driver refuses;
 * quiesced while somebody else needs the driver; stopped.
 */
export interface ProbeKeeperOptions {
	readonly clock: Clock;
	readonly rng: Rng;
	readonly log: Logger;
	readonly limits: ProbeLimits;
	readonly start: StartProbe;
	readonly pidFile: PidFile;
	readonly tracePath: string;
	readonly onFinding: (finding: ProbeFinding) => void;
	/** Slow samples have the processes of each GPU. Default false. */
	readonly processes?: boolean;
	readonly readEvidence?: (pid: number) => ProcessEvidence;
	readonly killForeign?: (pid: number, signal: NodeJS.Signals) => void;
}

/** States in which a driver that turns out to be open makes the probe run. */
const OPENING: ReadonlySet<ProbeStateName> = new Set(['starting', 'slow', 'unavailable']);
/** Of samples that came late: more than any driver tells between two of them. */
const LATE_EVENTS_MAX = 256;

export class ProbeKeeper {
	readonly #options: ProbeKeeperOptions;
	readonly #exchange: Exchange;
	readonly #backoff: Backoff;
	#state: ProbeStateName = 'stopped';
	#process: ProbeProcess | undefined;
	#driver: OpenedDriver | undefined;
	#fault: ProbeFault | undefined;
	#starts = 0;
	#startedAtMs = 0;
	/** On the monotonic clock: since when it is not as it should be. */
	#troubledSinceMs: number | undefined;
	#timer: Timer | undefined;
	/** Of its own: a probe that hangs while it should let go is still started again when the time is over. */
	#resumeTimer: Timer | undefined;
	#quiescedUntilMs = 0;
	/** Of the newest probe. */
	#gone = Promise.withResolvers<boolean>();
	/** Probes in a row that ended by themselves before they gave a sample. */
	#crashes = 0;
	/** What samples told that came when nobody waited for them any more. */
	#missed: { readonly events: readonly ProbeEvent[]; readonly isListChanged: boolean } | undefined;

	constructor(options: ProbeKeeperOptions) {
		this.#options = options;
		const { backoffBaseMs, backoffMaxMs } = options.limits;
		this.#backoff = new Backoff(
			{ baseMs: backoffBaseMs * 2, maxMs: backoffMaxMs, floorMs: backoffBaseMs / 2 },
			options.rng,
		);
		this.#exchange = new Exchange(
			options.clock,
			options.limits,
			{
				onLate: (waitedMs) => this.#late(waitedMs),
				onHung: (waitedMs) => this.#hung(waitedMs),
				onAnswered: (_, wasLate) => {
					if (wasLate && this.#state === 'slow' && this.#driver !== undefined) this.#state = 'running';
				},
			},
			(request) => this.#process?.send(request),
		);
	}

	get state(): ProbeStateName {
		return this.#state;
	}

	/** Of the driver that is open; undefined while none is. */
	get driver(): OpenedDriver | undefined {
		return this.#driver;
	}

	/** Why the driver can't be used; undefined while it can. */
	get fault(): ProbeFault | undefined {
		return this.#fault;
	}

	get restarts(): number {
		return Math.max(0, this.#starts - 1);
	}

	get misses(): number {
		return this.#exchange.misses;
	}

	get pid(): number | undefined {
		return this.#process?.pid;
	}

	/** Starts the probe, unless one of an earlier agent still lives: that one has to end first. */
	start(): void {
		const former = this.#options.pidFile.living();
		if (former === undefined) this.#launch();
		else void this.#outlive(former);
	}

	/** Undefined when the probe isn't up, is busy, or doesn't answer in time. */
	async sample(slow: boolean): Promise<ProbeSample | undefined> {
		if (!this.#isUp()) return undefined;
		const { limits, processes = false } = this.#options;
		const { fastDeadlineMs, slowDeadlineMs } = limits;
		const answer = await this.#exchange.ask({ op: 'sample', slow, processes }, slow ? slowDeadlineMs : fastDeadlineMs);
		if (answer?.op !== 'sample') return undefined;
		this.#recovered();
		const late = this.#missed;
		if (late === undefined) return answer.sample;
		this.#missed = undefined;
		const { events, isListChanged } = answer.sample;
		return {
			...answer.sample,
			events: [...late.events, ...events],
			isListChanged: isListChanged || late.isListChanged,
		};
	}

	async inventory(): Promise<GpuInventory | undefined> {
		if (!this.#isUp() || this.#exchange.isBusy) return undefined;
		const answer = await this.#exchange.ask({ op: 'inventory' }, this.#options.limits.slowDeadlineMs);
		return answer?.op === 'inventory' ? answer.inventory : undefined;
	}

	/**
	 * Lets go of the driver until `untilMs` (wall clock) at most, or `resume`. Resolves true when the probe is gone, false
	 * when it hangs: then the driver is not free.
	 */
	async quiesce(untilMs: number): Promise<boolean> {
		if (this.#state === 'stopped') return true;
		if (this.#state === 'hung') return false;
		const { clock, limits } = this.#options;
		this.#quiescedUntilMs = untilMs;
		this.#timer?.cancel();
		this.#resumeTimer?.cancel();
		this.#resumeTimer = clock.setTimer(() => this.resume(), untilMs - clock.now());
		const probe = this.#process;
		this.#state = 'quiesced';
		if (probe === undefined || (await this.#dismiss(limits.quiesceMs))) return true;
		// Somebody who asked before may have waited long enough already.
		if (this.#process === probe && this.#state === 'quiesced') this.#hung(limits.quiesceMs);
		return false;
	}

	resume(): void {
		this.#resumeTimer?.cancel();
		// Also while one hangs: when that is gone the next is started.
		this.#quiescedUntilMs = 0;
		if (this.#state !== 'quiesced') return;
		// One that did not end on request is still there: it is started again when it is gone.
		if (this.#process === undefined) this.#launch();
	}

	/** In well under a second, whatever the driver does. A probe that hangs is left behind, and found by the next agent. */
	async stop(): Promise<void> {
		const wasHung = this.#state === 'hung';
		this.#timer?.cancel();
		this.#resumeTimer?.cancel();
		this.#state = 'stopped';
		if (this.#process === undefined) return;
		if (wasHung || !(await this.#dismiss(this.#options.limits.byeMs))) this.#process?.kill('SIGTERM');
		this.#exchange.giveUp();
		this.#process?.abandon();
	}

	#isUp(): boolean {
		return this.#driver !== undefined && (this.#state === 'running' || this.#state === 'slow');
	}

	#launch(): void {
		const { clock, log, start, pidFile } = this.#options;
		// A driver that was refused is so until it is open: trying again is no better state.
		this.#state = this.#fault === undefined ? 'starting' : 'unavailable';
		this.#driver = undefined;
		this.#starts += 1;
		this.#startedAtMs = clock.monotonic();
		this.#gone = Promise.withResolvers();
		let unrecorded: string | undefined;
		let probe: ProbeProcess;
		try {
			probe = start({
				onAnswer: (answer) => this.#onAnswer(answer),
				onExit: (why) => this.#onExit(unrecorded ?? why),
			});
		} catch (error) {
			this.#onExit(messageOf(error));
			return;
		}
		this.#process = probe;
		if (probe.pid === undefined) return;
		try {
			pidFile.write(probe.pid);
		} catch (error) {
			// Should it hang and the agent start anew, a second would come beside it. The driver isn't open yet.
			unrecorded = `its pid can not be recorded: ${messageOf(error)}`;
			log.error('the GPU probe is ended: its pid can not be recorded', { error });
			probe.kill('SIGKILL');
		}
	}

	/** Also when it comes late: a driver that took its time to open is open. */
	#opened(opened: OpenedDriver | ProbeFault): void {
		if ('code' in opened) {
			this.#unavailable(opened);
			return;
		}
		this.#driver = opened;
		// Of one that crashes only a sample shows that it no longer does.
		if (this.#fault?.code !== CRASHED) this.#fault = undefined;
		if (OPENING.has(this.#state)) this.#state = 'running';
	}

	#onAnswer(answer: ProbeAnswer): void {
		if (answer.op === 'ready') void this.#exchange.ask({ op: 'open' }, this.#options.limits.slowDeadlineMs);
		if (answer.op === 'open') this.#opened(answer.opened);
		if (answer.op === 'failed') this.#unavailable(answer.fault);
		const isTaken = this.#exchange.answered(answer);
		if (!isTaken && answer.op === 'sample') this.#keepLate(answer.sample);
	}

	/** Its values are old by now; what happened is told once, and nobody tells it again. */
	#keepLate({ events, isListChanged }: ProbeSample): void {
		const former = this.#missed;
		this.#missed = {
			events: [...(former?.events ?? []), ...events].slice(-LATE_EVENTS_MAX),
			isListChanged: isListChanged || former?.isListChanged === true,
		};
	}

	#unavailable(fault: ProbeFault): void {
		const isNews = this.#fault?.code !== fault.code;
		this.#fault = fault;
		this.#driver = undefined;
		if (this.#state !== 'quiesced' && this.#state !== 'stopped') this.#state = 'unavailable';
		this.#troubled();
		if (isNews) this.#options.onFinding({ kind: 'unavailable', ...fault });
	}

	#late(waitedMs: number): void {
		if (this.#state !== 'running' && this.#state !== 'starting') return;
		this.#state = 'slow';
		this.#troubled();
		this.#options.onFinding({ kind: 'slow', call: this.#call(), waitedMs });
	}

	/** SIGTERM ends a process that hangs in an ordinary call; one in D ends when the driver lets go of it, if ever. */
	#hung(waitedMs: number): void {
		const probe = this.#process;
		if (probe?.pid === undefined || this.#state === 'stopped') return;
		this.#state = 'hung';
		this.#driver = undefined;
		this.#troubled();
		this.#reportHung(probe.pid, waitedMs, false);
		probe.kill('SIGTERM');
		this.#timer?.cancel();
		this.#timer = this.#options.clock.setTimer(() => probe.kill('SIGKILL'), this.#options.limits.killGraceMs);
	}

	#reportHung(pid: number, waitedMs: number, isInherited: boolean): void {
		const evidence = (this.#options.readEvidence ?? readEvidence)(pid);
		const call = this.#call();
		this.#options.log.error('the NVIDIA driver does not answer', {
			call,
			waitedMs,
			process: describeEvidence(evidence),
		});
		this.#options.onFinding({ kind: 'hung', call, waitedMs, evidence, isInherited });
	}

	/** The one of an agent before this: it has no channel any more, so only a signal or the driver ends it. */
	async #outlive(pid: number): Promise<void> {
		const { clock, limits, pidFile, killForeign = killQuietly } = this.#options;
		this.#state = 'hung';
		this.#troubled();
		const startedAtMs = clock.monotonic();
		killForeign(pid, 'SIGTERM');
		let isReported = false;
		let isKilled = false;
		while (pidFile.living() === pid) {
			await sleep(clock, Math.min(limits.watchMs, limits.byeMs / 4));
			if (this.state !== 'hung') return;
			const waitedMs = clock.monotonic() - startedAtMs;
			if (waitedMs < limits.killGraceMs) continue;
			if (!isKilled) killForeign(pid, 'SIGKILL');
			isKilled = true;
			if (!isReported && waitedMs >= limits.killGraceMs + limits.watchMs && pidFile.living() === pid) {
				isReported = true;
				this.#reportHung(pid, waitedMs, true);
			}
		}
		if (this.state === 'hung') this.#launch();
	}

	#onExit(why: string): void {
		const { clock, limits, log, pidFile } = this.#options;
		this.#process = undefined;
		this.#driver = undefined;
		try {
			pidFile.remove();
		} catch (error) {
			// It names a process that is gone, which whoever reads it sees.
			log.warn('the pid file of the GPU probe was not removed', { error });
		}
		this.#exchange.giveUp();
		this.#gone.resolve(true);
		if (this.#state === 'stopped') return;
		this.#timer?.cancel();
		if (this.#quiescedUntilMs > clock.now()) {
			this.#state = 'quiesced';
			return;
		}
		if (this.#state === 'quiesced') {
			this.#launch();
			return;
		}
		if (this.#fault?.code === NO_KOFFI) {
			this.#state = 'unavailable';
			return;
		}
		if (clock.monotonic() - this.#startedAtMs >= limits.stableMs) this.#backoff.reset();
		const delayMs = this.#backoff.nextMs();
		log.warn('the GPU probe ended', { why, state: this.#state, restartInMs: Math.round(delayMs) });
		// One that hung, or that the driver refused, was told of as such.
		if (this.#state !== 'hung' && this.#fault === undefined) this.#crashes += 1;
		if (this.#state !== 'unavailable') this.#state = 'restarting';
		this.#troubled();
		if (this.#fault === undefined && this.#crashes >= limits.crashesMax)
			this.#unavailable({ code: CRASHED, message: `the GPU probe ends by itself: ${why}` });
		this.#timer = clock.setTimer(() => this.#launch(), delayMs);
	}

	/** Asks it to close the driver and end; true when it has. */
	async #dismiss(graceMs: number): Promise<boolean> {
		const probe = this.#process;
		if (probe === undefined) return true;
		const { promise: gone } = this.#gone;
		probe.send({ id: 0, op: 'bye' });
		const ended = new AbortController();
		const inTime = await Promise.race([gone, sleep(this.#options.clock, graceMs, ended.signal).then(() => false)]);
		ended.abort();
		return inTime;
	}

	#call(): string {
		return readTrace(this.#options.tracePath) ?? 'no call yet';
	}

	#troubled(): void {
		this.#troubledSinceMs ??= this.#options.clock.monotonic();
	}

	#recovered(): void {
		this.#crashes = 0;
		this.#fault = undefined;
		const since = this.#troubledSinceMs;
		if (since === undefined) return;
		this.#troubledSinceMs = undefined;
		this.#options.onFinding({ kind: 'recovered', afterMs: this.#options.clock.monotonic() - since });
	}
}

function killQuietly(pid: number, signal: NodeJS.Signals): void {
	try {
		process.kill(pid, signal);
	} catch {
		// It ended meanwhile.
	}
}
