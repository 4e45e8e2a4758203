/**
 * How child processes end, as the kernel says it. Node has no names for real-time signals: it reports a process that
 * one ended as exit code 0, and libuv has waited by then, so that no trace is left of what it was told. Children whose
 * end matters are therefore taken from libuv in the turn of their fork and waited for here, by wait4(2) through koffi,
 * which also tells what they used. Used by the process host and the pty host.
 *
 * libuv waits for a child as long as its handle is open, so the handle is closed: the child's number stays taken, as a
 * zombie's, until we wait. A trial at the start proves all of it; where it fails, Node's word is passed on and an exit
 * code of 0 is marked as unproven.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:os';
import { assert } from '../../kit/assert.ts';
import { type Clock, sleep } from '../../kit/clock.ts';
import { messageOf } from '../../kit/error.ts';
import type { TaskEnd } from '../tasks/process-host.ts';

export interface ChildEnd {
	readonly end: Extract<TaskEnd, { readonly kind: 'EXITED' | 'SIGNALED' }>;
	/** Of the child and of its descendants that were waited for; absent where only Node waits. */
	readonly cpu?: { readonly userMs: number; readonly systemMs: number };
}

export interface Waiter {
	/**
	 * In the turn of the fork, once; nothing else of the child's `exit` or `kill` is of use from then on. Rejects when it has
	 * ended and somebody else was told how.
	 */
	adopt(child: ChildProcess): Promise<ChildEnd>;
}

/** For whoever reads of such an end. */
export const unprovenExit =
	'exit code 0, or ended by a real-time signal: this node can not tell them apart; install koffi there, and see the log of its hosts';

/** wait4(2): the child's number, 0 while it runs, -1. */
export type Wait4 = (pid: number, status: Buffer, options: number, usage: Buffer) => number;

const WNOHANG = 1;
/** sizeof(struct rusage) where long has 64 bits, as on every machine that koffi and Node 24 have a build for. */
const RUSAGE_BYTES = 144;
const TRIAL_MS_MAX = 10_000;
/** The second real-time signal that programs may use; the C library keeps the two before. */
const TRIAL_SIGNAL = 35;

/** Of two names of one number the first is the usual one: SIGABRT, SIGIOT. */
const NAMES = new Map(
	Object.entries(constants.signals)
		.reverse()
		.map(([name, number]) => [number, name]),
);

function signaled(number: number): ChildEnd['end'] {
	return { kind: 'SIGNALED', signal: NAMES.get(number) ?? `SIG${number}` };
}

/** The other way; those that have no name are called by their number. */
export function signalNumber(name: string): number {
	return constants.signals[name as NodeJS.Signals] ?? Number(/^SIG(\d+)$/.exec(name)?.[1] ?? 0);
}

export async function loadWait4(): Promise<Wait4> {
	const { default: koffi } = await import('koffi');
	// Of this program: whatever C library it has.
	return koffi.load(null).func('int wait4(int, void *, int, void *)') as Wait4;
}

/** Waits for those children that it adopted, and for no others. */
export class KernelWaiter implements Waiter {
	readonly #wait4: Wait4;
	readonly #waiting = new Map<number, PromiseWithResolvers<ChildEnd>>();
	readonly #status = Buffer.alloc(4);
	readonly #usage = Buffer.alloc(RUSAGE_BYTES);
	readonly #onChild = () => this.#collect();

	constructor(wait4: Wait4) {
		this.#wait4 = wait4;
		process.on('SIGCHLD', this.#onChild);
	}

	adopt(child: ChildProcess): Promise<ChildEnd> {
		const { pid } = child;
		assert(pid !== undefined, 'there is a process');
		(child as unknown as { readonly _handle: { close(): void } })._handle.close();
		const waiting = Promise.withResolvers<ChildEnd>();
		this.#waiting.set(pid, waiting);
		return waiting.promise;
	}

	[Symbol.dispose](): void {
		process.off('SIGCHLD', this.#onChild);
	}

	/** One signal may stand for several children: all are asked for, some 0.5 µs each. */
	#collect(): void {
		for (const [pid, { resolve, reject }] of this.#waiting) {
			const found = this.#wait4(pid, this.#status, WNOHANG, this.#usage);
			if (found === 0) continue;
			this.#waiting.delete(pid);
			if (found === pid) resolve(this.#read());
			else reject(new Error(`process ${pid} has ended, and somebody else was told how`));
		}
	}

	/** wait(2): the low 7 bits are the signal, and without one the next 8 the exit code. */
	#read(): ChildEnd {
		const status = this.#status.readInt32LE(0);
		const ms = (at: number) =>
			Number(this.#usage.readBigInt64LE(at)) * 1000 + Number(this.#usage.readBigInt64LE(at + 8)) / 1000;
		const cpu = { userMs: ms(0), systemMs: ms(16) };
		const number = status & 0x7f;
		return number === 0
			? { end: { kind: 'EXITED', exitCode: (status >> 8) & 0xff }, cpu }
			: { end: signaled(number), cpu };
	}
}

/** What Node says. */
export const nodeWaiter: Waiter = {
	adopt: (child) =>
		new Promise((resolve) => {
			child.once('exit', (exitCode, signal) => {
				if (signal !== null) resolve({ end: { kind: 'SIGNALED', signal } });
				else if (exitCode === 0) resolve({ end: { kind: 'EXITED', exitCode, isUnproven: true } });
				else resolve({ end: { kind: 'EXITED', exitCode: exitCode ?? 0 } });
			});
		}),
};

/** Of a process that a real-time signal ends. */
async function tryOut(waiter: Waiter, clock: Clock): Promise<void> {
	const child = spawn('/bin/sh', ['-c', `kill -${TRIAL_SIGNAL} $$`], { cwd: '/', env: {}, stdio: 'ignore' });
	if (child.pid === undefined) throw new Error('/bin/sh could not be started');
	const tooLate = new AbortController();
	const ended = await Promise.race([waiter.adopt(child), sleep(clock, TRIAL_MS_MAX, tooLate.signal)]);
	tooLate.abort();
	if (ended === undefined) throw new Error('a process ended, and nobody was told');
	const { end } = ended;
	if (end.kind !== 'SIGNALED' || end.signal !== `SIG${TRIAL_SIGNAL}`) throw new Error(`it saw ${JSON.stringify(end)}`);
}

export async function openWaiter(clock: Clock, log: (line: string) => void, load = loadWait4): Promise<Waiter> {
	let waiter: KernelWaiter | undefined;
	try {
		waiter = new KernelWaiter(await load());
		await tryOut(waiter, clock);
		return waiter;
	} catch (error) {
		waiter?.[Symbol.dispose]();
		log(`wait4 is of no use here (${messageOf(error)}): an exit code of 0 may be a real-time signal; install koffi`);
		return nodeWaiter;
	}
}
