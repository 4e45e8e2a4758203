/** For tests: a real host in a directory of its own, and eyes for what runs on the machine. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { vi } from 'vitest';
import { systemClock } from '../../kit/clock.ts';
import { readDirectoryLock } from '../../kit/directory-lock.ts';
import { bootId } from '../../kit/process-identity.ts';
import type { LaunchRequest, OutputRecord, ProcessHost, TaskKey, TaskResult } from '../tasks/process-host.ts';
import type { SocketProcessHost } from './client.ts';
import type { HostConfig } from './limits.ts';
import { uptimeTicks } from './proc.ts';
import { lastSignOfLife, reapDirectory } from './reap.ts';
import { startProcessHost } from './start.ts';

export const compileCache = fileURLToPath(new URL('../../test/.cache/process-host', import.meta.url));
export const PATH = '/usr/bin:/bin';
let made = 0;

/**
 * An argument for sleep(1) that no other process on the machine has, so that its process is found by it. Each is as long
 * as the next: none is a part of another.
 */
export function uniqueSeconds(): string {
	made += 1;
	return `9${String(process.pid).padStart(7, '0')}.${String(made).padStart(5, '0')}`;
}

/** Pids whose command line has `text`; zombies have none. */
export function pidsWith(text: string): readonly number[] {
	return readdirSync('/proc').flatMap((name) => {
		try {
			const pid = Number(name);
			return Number.isInteger(pid) && readFileSync(`/proc/${name}/cmdline`, 'utf8').includes(text) ? [pid] : [];
		} catch {
			return [];
		}
	});
}

export function until<T>(condition: () => T | Promise<T>): Promise<T> {
	return vi.waitFor(condition, { timeout: 50_000, interval: 10 });
}

/** What began after the last sign of life of a host that died could be anybody's: this waits for one since now. */
export async function signOfLife(directory: string): Promise<void> {
	const sinceTicks = uptimeTicks();
	await until(() => {
		if (lastSignOfLife(directory, bootId()) <= sinceTicks) throw new Error('no sign of life yet');
	});
}

export function request(argv: readonly string[], more: Partial<LaunchRequest> = {}): LaunchRequest {
	made += 1;
	return {
		taskId: `task-${made}`,
		attempt: 1,
		argv,
		env: { PATH },
		cwd: '/',
		// Longer than any test: what ends by it says so.
		timeoutMs: 600_000,
		graceMs: 1_000,
		outputCapBytes: 1 << 20,
		...more,
	};
}

export class HostFixture implements AsyncDisposable {
	readonly directory: string;
	readonly #config: Partial<HostConfig>;
	host: SocketProcessHost;

	constructor(directory: string, config: Partial<HostConfig>, host: SocketProcessHost) {
		this.directory = directory;
		this.#config = config;
		this.host = host;
	}

	static async start(config: Partial<HostConfig> = {}): Promise<HostFixture> {
		const directory = mkdtempSync(join(tmpdir(), 'ph-'));
		const host = await startProcessHost({ directory, clock: systemClock, config, compileCache });
		return new HostFixture(directory, config, host);
	}

	/** A connection of its own; starts a host when none lives. */
	async connect(): Promise<SocketProcessHost> {
		const { directory } = this;
		this.host = await startProcessHost({ directory, clock: systemClock, config: this.#config, compileCache });
		return this.host;
	}

	/** As a crash does. Resolves when the process is gone. */
	async killHost(): Promise<void> {
		const { host } = this;
		process.kill(host.pid, 'SIGKILL');
		await host.closed;
		await until(() => {
			// Its command line goes before it does.
			if (readDirectoryLock(this.directory)?.alive === true) throw new Error('the host still runs');
		});
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.host.shutdown(0);
		await until(async () => {
			const { kind } = await reapDirectory({ directory: this.directory, clock: systemClock });
			if (kind === 'HOST_ALIVE') throw new Error('the host still runs');
		});
		rmSync(this.directory, { recursive: true, force: true });
	}
}

export interface Output {
	readonly stdout: Buffer;
	readonly stderr: Buffer;
	readonly records: readonly OutputRecord[];
}

export async function outputOf(host: ProcessHost, key: TaskKey, fromOffset = 0): Promise<Output> {
	const records: OutputRecord[] = [];
	for await (const record of host.attach(key, fromOffset)) records.push(record);
	const join = (stream: string) =>
		Buffer.concat(records.flatMap((each) => (each.kind === 'DATA' && each.stream === stream ? [each.bytes] : [])));
	return { stdout: join('stdout'), stderr: join('stderr'), records };
}

/** The first bytes that a task wrote, while it runs: from then on they are in the host's hands. */
export async function firstOutput(host: ProcessHost, key: TaskKey): Promise<Uint8Array> {
	for await (const record of host.attach(key, 0)) if (record.kind === 'DATA') return record.bytes;
	throw new Error(`${key.taskId}: ended without output`);
}

export async function launched(host: ProcessHost, wanted: LaunchRequest): Promise<LaunchRequest> {
	const outcome = await host.launch(wanted);
	if (outcome.kind !== 'STARTED') throw new Error(`not started: ${JSON.stringify(outcome)}`);
	return wanted;
}

export async function resultOf(host: ProcessHost, key: TaskKey): Promise<TaskResult> {
	return until(async () => {
		const outcome = await host.result(key);
		if (outcome.kind !== 'ENDED') throw new Error(`${key.taskId}: ${outcome.kind}`);
		return outcome.result;
	});
}

/** Launches, waits for the end, and gives result and output. */
export async function run(host: ProcessHost, wanted: LaunchRequest): Promise<Output & { readonly result: TaskResult }> {
	await launched(host, wanted);
	const output = await outputOf(host, wanted);
	return { ...output, result: await resultOf(host, wanted) };
}
