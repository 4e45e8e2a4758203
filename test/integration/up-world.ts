import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { eventually } from '../eventually.ts';

/**
 * The whole product as a person starts it: `gpuaas up` in a folder of its own, on free ports, with a configuration folder
 * of its own, and the command beside it. Everything is real; nothing of the user's is touched.
 */
const GPUAAS = fileURLToPath(new URL('../../gpuaas', import.meta.url));

export interface Ran {
	readonly code: number | null;
	readonly signal: NodeJS.Signals | null;
	readonly stdout: string;
	readonly stderr: string;
}

export interface Ready {
	readonly ready: true;
	readonly api: string;
	readonly gateway: string;
	readonly enroll: string;
	readonly ops: string;
	readonly ca: string;
	readonly node: string;
	readonly firstTask: { readonly id: string; readonly exitCode: number | null };
}

export class UpWorld implements AsyncDisposable {
	readonly root: string;
	readonly data: string;
	/** What starts the product, before its own command line: another mount namespace, say. */
	within: readonly string[] = [];
	/** The `gpuaas` that `up` is started with: another copy of the product, say. */
	product = GPUAAS;
	#up: Started | undefined;

	constructor() {
		this.root = mkdtempSync(join(tmpdir(), 'gpuaas-up-test-'));
		this.data = join(this.root, 'data');
	}

	/** Starts `up` and resolves with its ready line. */
	async up(...flags: string[]): Promise<Ready> {
		const started = new Started(['up', '--json', '--data', this.data, ...flags], this.env(), this.within, this.product);
		this.#up = started;
		const line = await started.line((text) => text.includes('"ready"') || text.includes('"error"'));
		const parsed = JSON.parse(line) as Ready;
		if (parsed.ready !== true) throw new Error(`up failed: ${line}\n${started.stderr()}\n${this.logs()}`);
		return parsed;
	}

	/** Ctrl-C to the running `up`. */
	async stop(): Promise<Ran> {
		const up = this.#up;
		if (up === undefined) throw new Error('nothing is up');
		this.#up = undefined;
		up.child.kill('SIGINT');
		return up.ended;
	}

	/** kill -9 to `up` alone; its daemons live on. */
	async kill(): Promise<void> {
		const up = this.#up;
		if (up === undefined) throw new Error('nothing is up');
		this.#up = undefined;
		up.child.kill('SIGKILL');
		await new Promise((ended) => up.child.once('exit', ended));
	}

	/** kill -9 to `up` and both daemons, at once; what outlives an agent goes on. */
	async crash(): Promise<void> {
		const up = this.#up;
		if (up === undefined) throw new Error('nothing is up');
		this.#up = undefined;
		up.child.kill('SIGKILL');
		for (const name of ['agent/main', 'control-plane/main']) for (const pid of this.pids(name)) killQuietly(pid);
		await up.ended;
	}

	start(argv: readonly string[], env = this.env()): Started {
		return new Started(argv, env);
	}

	run(...argv: string[]): Promise<Ran> {
		return this.start(argv).ended;
	}

	async json<T>(...argv: string[]): Promise<T> {
		const ran = await this.run(...argv, '--json');
		if (ran.code !== 0) throw new Error(`${argv.join(' ')} ended with ${ran.code}: ${ran.stdout}${ran.stderr}`);
		return JSON.parse(ran.stdout) as T;
	}

	env(): Record<string, string> {
		const { PATH = '', HOME = '/' } = process.env;
		return { PATH, HOME, GPUAAS_CONFIG_DIR: join(this.root, 'config') };
	}

	/**
	 * Pids of this world's processes whose command line contains `text`. Without what they have only just made: a process
	 * has the command line of its parent until it has a program of its own.
	 */
	pids(text: string): number[] {
		const found = processes()
			.filter(({ line }) => line.includes(text) && line.includes(this.data))
			.map(({ pid }) => pid);
		return found.filter((pid) => !found.includes(parentOf(pid)));
	}

	/** Whether one of this world's daemons is above it: what runs on the nodes of other worlds looks the same. */
	runs(pid: number): boolean {
		const daemons = this.pids('agent/');
		for (let at = pid; at > 1; at = parentOf(at)) if (daemons.includes(at)) return true;
		return false;
	}

	/** The helper (`agent/NAME/main`) of a command to this world's node, once it runs. */
	async helper(name: string): Promise<number> {
		// Not the wrappers on the way, which have it in their arguments.
		const isIt = (line: string) => /^\S+\/node /.test(line) && line.includes(`agent/${name}/main`);
		const found = () => processes().find(({ pid, line }) => isIt(line) && this.runs(pid));
		return (await eventually(`the helper ${name} runs`, found)).pid;
	}

	logs(): string {
		try {
			return readdirSync(join(this.data, 'logs'))
				.map((name) => `--- ${name}\n${readFileSync(join(this.data, 'logs', name), 'utf8').slice(-4000)}`)
				.join('\n');
		} catch {
			return 'no logs';
		}
	}

	async [Symbol.asyncDispose](): Promise<void> {
		if (this.#up !== undefined) await this.stop();
		for (const { pid, line } of processes()) {
			if (line.includes(this.root)) killQuietly(pid);
		}
		rmSync(this.root, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
	}
}

/** It may have ended by itself in the moment before. */
export function killQuietly(pid: number): void {
	try {
		process.kill(pid, 'SIGKILL');
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
	}
}

export class Started {
	readonly child: ChildProcess;
	readonly ended: Promise<Ran>;
	#stdout = '';
	#stderr = '';
	#isClosed = false;
	readonly #waiters = new Set<() => void>();

	constructor(
		argv: readonly string[],
		env: Record<string, string>,
		within: readonly string[] = [],
		product: string = GPUAAS,
		stdin: 'ignore' | 'pipe' = 'ignore',
	) {
		const [file = GPUAAS, ...rest] = [...within, product, ...argv];
		const child = spawn(file, rest, { env, stdio: [stdin, 'pipe', 'pipe'] });
		this.child = child;
		child.stdout?.setEncoding('latin1').on('data', (text: string) => {
			this.#stdout += text;
			this.#wake();
		});
		child.stderr?.setEncoding('utf8').on('data', (text: string) => {
			this.#stderr += text;
			this.#wake();
		});
		this.ended = new Promise((resolve, reject) => {
			child.on('error', reject);
			child.on('close', (code, signal) => {
				this.#isClosed = true;
				resolve({ code, signal, stdout: this.#stdout, stderr: this.#stderr });
				this.#wake();
			});
		});
	}

	stdout(): string {
		return this.#stdout;
	}

	stderr(): string {
		return this.#stderr;
	}

	/** The first whole line of standard output that matches; rejects when the program ends without one. */
	line(matches: (line: string) => boolean): Promise<string> {
		return this.#line(() => this.#stdout, matches);
	}

	/** The same of standard error. */
	errorLine(matches: (line: string) => boolean): Promise<string> {
		return this.#line(() => this.#stderr, matches);
	}

	async #line(text: () => string, matches: (line: string) => boolean): Promise<string> {
		for (;;) {
			const found = text().split('\n').slice(0, -1).find(matches);
			if (found !== undefined) return found;
			if (this.#isClosed)
				throw new Error(`the program ended (${this.child.exitCode}) without that line: ${this.#stdout}${this.#stderr}`);
			await new Promise<void>((resolve) => this.#waiters.add(resolve));
		}
	}

	#wake(): void {
		for (const waiter of this.#waiters) waiter();
		this.#waiters.clear();
	}
}

export function processes(): { readonly pid: number; readonly line: string }[] {
	const found: { pid: number; line: string }[] = [];
	for (const name of readdirSync('/proc')) {
		if (!/^\d+$/.test(name) || Number(name) === process.pid) continue;
		try {
			found.push({ pid: Number(name), line: readFileSync(`/proc/${name}/cmdline`, 'utf8').replaceAll('\0', ' ') });
		} catch {
			// Ended meanwhile.
		}
	}
	return found;
}

/** 0 once it is gone. */
function parentOf(pid: number): number {
	try {
		return Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);
	} catch {
		return 0;
	}
}
