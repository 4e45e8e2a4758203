import { type ChildProcess, spawn as nodeSpawn, type SpawnOptions } from 'node:child_process';
import { assert } from './assert.ts';
import type { Clock, Timer } from './clock.ts';
import type { Rng } from './ids.ts';
import { Backoff, type BackoffOptions } from './retry.ts';

/**
 * A child process that is kept running: started, restarted with backoff, stopped with a grace period, every exit
 * reported. States: starting -> running -> (waiting -> running)* -> stopping -> stopped, or -> failed when its restarts
 * are spent. Invariants: at most one process of it lives; after `stop` resolves none does and none will.
 * Called by mains that own helper processes (`up`, the probe, the pty-host).
 */
export interface ChildSpec {
	/** For logs and errors. */
	readonly name: string;
	readonly command: string;
	readonly args: readonly string[];
	readonly cwd?: string;
	/** The whole environment; nothing is inherited unless it is put here. */
	readonly env: Readonly<Record<string, string>>;
	readonly stdio?: SpawnOptions['stdio'];
	/** A session and process group of its own; signals then go to the whole group. */
	readonly ownGroup?: boolean;
}

export interface ChildExit {
	/** Absent when the program could not be started at all: see `error`. */
	readonly pid: number | undefined;
	readonly code: number | null;
	readonly signal: NodeJS.Signals | null;
	readonly error: Error | undefined;
	readonly uptimeMs: number;
	/** Why it will not be started again, or the ms after which it will. */
	readonly next: 'stopped' | 'not-restarted' | 'restarts-spent' | { readonly restartInMs: number };
}

export interface SupervisorOptions {
	readonly clock: Clock;
	readonly rng: Rng;
	readonly spec: ChildSpec;
	/** Default `always`: these children are daemons. */
	readonly restart?: 'always' | 'on-failure' | 'never';
	/** Default: 200 ms doubling to 30 s, with full jitter and at least 50 ms. */
	readonly backoff?: BackoffOptions;
	/** A run of at least this resets backoff and the restart count. Default 60 s. */
	readonly stableAfterMs?: number;
	/** Restarts without a stable run between them before giving up. Default: no end, the backoff bounds the rate. */
	readonly restartsMax?: number;
	/** From SIGTERM to SIGKILL. Default 10 s. */
	readonly stopGraceMs?: number;
	/** At each start, before any of its output: attach to its streams here. */
	readonly onStart?: (child: ChildProcess) => void;
	readonly onExit?: (exit: ChildExit) => void;
	readonly spawn?: (spec: ChildSpec) => ChildProcess;
}

export type ChildState = 'starting' | 'running' | 'waiting' | 'stopping' | 'stopped' | 'failed';

export class SupervisedChild implements AsyncDisposable {
	readonly #options: SupervisorOptions;
	readonly #backoff: Backoff;
	readonly #ended = Promise.withResolvers<ChildExit | undefined>();
	#state: ChildState = 'starting';
	#child: ChildProcess | undefined;
	#startedAtMs = 0;
	#restarts = 0;
	#timer: Timer | undefined;

	/** Starts it at once. */
	constructor(options: SupervisorOptions) {
		this.#options = options;
		this.#backoff = new Backoff(options.backoff ?? { baseMs: 200, maxMs: 30_000, floorMs: 50 }, options.rng);
		this.#start();
	}

	get state(): ChildState {
		return this.#state;
	}

	/** Of the process that lives now. */
	get pid(): number | undefined {
		return this.#state === 'running' || this.#state === 'stopping' ? this.#child?.pid : undefined;
	}

	/** Resolves when it has stopped or failed for good, with the last exit. */
	get ended(): Promise<ChildExit | undefined> {
		return this.#ended.promise;
	}

	/** Sends a signal to the child (its whole group when it has one); false when none lives. */
	signal(signal: NodeJS.Signals): boolean {
		const pid = this.pid;
		if (pid === undefined) return false;
		return killProcess(this.#options.spec.ownGroup ? -pid : pid, signal);
	}

	/** SIGTERM, then SIGKILL after the grace period; resolves when the process is gone. Idempotent. */
	async stop(): Promise<void> {
		if (this.#state === 'waiting') {
			this.#timer?.cancel();
			this.#end('stopped', undefined);
		} else if (this.#state === 'running' || this.#state === 'starting') {
			this.#state = 'stopping';
			this.signal('SIGTERM');
			this.#timer = this.#options.clock.setTimer(() => this.signal('SIGKILL'), this.#options.stopGraceMs ?? 10_000);
		}
		await this.#ended.promise;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.stop();
	}

	#start(): void {
		const { clock, spec, spawn = spawnChild } = this.#options;
		this.#state = 'starting';
		this.#startedAtMs = clock.monotonic();
		const child = spawn(spec);
		this.#child = child;
		let startError: Error | undefined;
		child.on('error', (error) => {
			// `error` also reports a failed kill; only a child without a pid never ran, and has no `exit` event.
			startError = error;
			if (child.pid === undefined) this.#exited(child, null, null, error);
		});
		child.on('exit', (code, signal) => this.#exited(child, code, signal, startError));
		if (child.pid === undefined) return;
		this.#state = 'running';
		this.#options.onStart?.(child);
	}

	#exited(child: ChildProcess, code: number | null, signal: NodeJS.Signals | null, error: Error | undefined): void {
		assert(child === this.#child, `${this.#options.spec.name}: an exit of a process that was already replaced`);
		this.#child = undefined;
		this.#timer?.cancel();
		// What a child started in its group may not outlive it: a restart would meet its leftovers.
		if (this.#options.spec.ownGroup && child.pid !== undefined) killProcess(-child.pid, 'SIGKILL');
		const { clock, stableAfterMs = 60_000 } = this.#options;
		const uptimeMs = clock.monotonic() - this.#startedAtMs;
		if (uptimeMs >= stableAfterMs) {
			this.#backoff.reset();
			this.#restarts = 0;
		}
		const next = this.#next(code);
		const exit: ChildExit = { pid: child.pid, code, signal, error, uptimeMs, next };
		if (typeof next === 'object') {
			this.#state = 'waiting';
			this.#restarts += 1;
			this.#timer = clock.setTimer(() => this.#start(), next.restartInMs);
		}
		this.#options.onExit?.(exit);
		if (typeof next === 'string') this.#end(next === 'restarts-spent' ? 'failed' : 'stopped', exit);
	}

	#next(code: number | null): ChildExit['next'] {
		if (this.#state === 'stopping') return 'stopped';
		const { restart = 'always', restartsMax = Number.POSITIVE_INFINITY } = this.#options;
		if (restart === 'never' || (restart === 'on-failure' && code === 0)) return 'not-restarted';
		if (this.#restarts >= restartsMax) return 'restarts-spent';
		return { restartInMs: this.#backoff.nextMs() };
	}

	#end(state: 'stopped' | 'failed', exit: ChildExit | undefined): void {
		this.#state = state;
		this.#ended.resolve(exit);
	}
}

function killProcess(pid: number, signal: NodeJS.Signals): boolean {
	try {
		return process.kill(pid, signal);
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
		throw error;
	}
}

function spawnChild(spec: ChildSpec): ChildProcess {
	return nodeSpawn(spec.command, [...spec.args], {
		cwd: spec.cwd,
		env: { ...spec.env },
		stdio: spec.stdio ?? ['ignore', 'inherit', 'inherit'],
		detached: spec.ownGroup ?? false,
	});
}
