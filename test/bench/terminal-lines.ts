import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startOnPty } from '../../agent/pty-host/pty-program.ts';
import type { Contexts } from '../../cli/contexts.ts';
import { systemClock } from '../../kit/clock.ts';
import { BenchChild } from './child.ts';
import { cpuUsOf } from './cpu.ts';
import { Line } from './line.ts';
import { ProfiledUp } from './product.ts';
import { SshPair } from './ssh.ts';

const GPUAAS = fileURLToPath(new URL('../../gpuaas', import.meta.url));

type Env = Readonly<Record<string, string>>;

/** The same person at the end of two lines: ours (the whole product, as `gpuaas up` runs it) and `ssh -J`. */
export class TerminalLines implements AsyncDisposable {
	readonly node: string;
	readonly env: Env;
	readonly #world: ProfiledUp;
	readonly #ssh: SshPair;
	readonly #sshConfig: string;
	readonly #close: AsyncDisposableStack;

	private constructor(
		world: ProfiledUp,
		ssh: SshPair,
		node: string,
		far: { readonly env: Env; readonly sshConfig: string },
		close: AsyncDisposableStack,
	) {
		this.node = node;
		this.env = far.env;
		this.#world = world;
		this.#ssh = ssh;
		this.#sshConfig = far.sshConfig;
		this.#close = close;
	}

	/** `env` goes to every process of ours. */
	static async open(env: Env = {}): Promise<TerminalLines> {
		// What was started ends with what comes after it and fails.
		await using begun = new AsyncDisposableStack();
		const ssh = begun.use(await SshPair.start());
		const world = begun.use(new ProfiledUp(env));
		const { node } = await world.up();
		return new TerminalLines(world, ssh, node, { env: world.env(), sshConfig: ssh.config }, begun.move());
	}

	/** The same person further away: a relay with this round trip before the control plane, and one before the jump host. */
	async far(rttMs: number): Promise<TerminalLines> {
		const close = new AsyncDisposableStack();
		const folder = mkdtempSync(join(tmpdir(), 'bench-far-'));
		close.defer(() => rmSync(folder, { recursive: true, force: true }));
		const through = async (port: number) => {
			const relay = close.use(new BenchChild('./relay-main.ts', { port, rttMs }));
			return Number(((await relay.ready) as string).split(':').at(-1));
		};
		const contexts = JSON.parse(
			readFileSync(join(this.env.GPUAAS_CONFIG_DIR ?? '', 'contexts.json'), 'utf8'),
		) as Contexts;
		const far: Record<string, object> = {};
		for (const [name, context] of Object.entries(contexts.contexts)) {
			const url = new URL(context.address);
			far[name] = { ...context, address: `https://${url.hostname}:${await through(Number(url.port))}` };
		}
		mkdirSync(join(folder, 'config'), { mode: 0o700 });
		writeFileSync(join(folder, 'config/contexts.json'), JSON.stringify({ ...contexts, contexts: far }), {
			mode: 0o600,
		});
		const sshConfig = this.#ssh.configVia(join(folder, 'ssh'), await through(this.#ssh.jumpPort));
		const env = { ...this.env, GPUAAS_CONFIG_DIR: join(folder, 'config') };
		return new TerminalLines(this.#world, this.#ssh, this.node, { env, sshConfig }, close);
	}

	/** With a terminal. */
	ours(...command: readonly string[]): Line {
		return new Line([GPUAAS, 'exec', this.node, '-t', '--', ...command], this.env);
	}

	ssh(...command: readonly string[]): Line {
		return new Line(['/usr/bin/ssh', '-tt', '-F', this.#sshConfig, '-J', 'jump', 'target', ...command], this.env);
	}

	/** Without one. */
	oursBulk(command: readonly string[]): Promise<Bulk> {
		return bulk([GPUAAS, 'exec', this.node, '-n', '--', ...command], this.env);
	}

	sshBulk(command: readonly string[]): Promise<Bulk> {
		return bulk(['/usr/bin/ssh', '-F', this.#sshConfig, '-J', 'jump', 'target', ...command], this.env);
	}

	/** With a terminal, as the person before it gets it. */
	oursFlood(command: readonly string[]): Promise<Bulk> {
		return flood([GPUAAS, 'exec', this.node, '-t', '--', ...command], this.env);
	}

	sshFlood(command: string): Promise<Bulk> {
		return flood(['/usr/bin/ssh', '-tt', '-F', this.#sshConfig, '-J', 'jump', 'target', command], this.env);
	}

	/** ms that the whole command took. A path at the node begins with a colon. */
	oursCopy(from: string, to: string): Promise<number> {
		const place = (path: string) => (path.startsWith(':') ? `${this.node}${path}` : path);
		return wholeMs([GPUAAS, 'cp', '--quiet', place(from), place(to)], this.env);
	}

	sshCopy(from: string, to: string): Promise<number> {
		const place = (path: string) => (path.startsWith(':') ? `target${path}` : path);
		return wholeMs(['/usr/bin/scp', '-q', '-F', this.#sshConfig, '-J', 'jump', place(from), place(to)], this.env);
	}

	pids(text: string): readonly number[] {
		return this.#world.pids(text);
	}

	/** CPU time so far, in µs, of each process; the command's is that of all that have ended. */
	cpuUs(): Record<string, number> {
		const of = (text: string) => this.pids(text).reduce((sum, pid) => sum + cpuUsOf(pid), 0);
		const ended = cpuUsOf(process.pid) - ownCpuUs();
		return { controlPlane: of('control-plane/main'), agent: of('agent/main'), ptyHost: of('pty-host/main'), ended };
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.#close.disposeAsync();
	}
}

function ownCpuUs(): number {
	const { user, system } = process.cpuUsage();
	return user + system;
}

export interface Bulk {
	readonly bytes: number;
	/** From the first byte to the last: what starts a program is another row's. */
	readonly ms: number;
}

/** Of what `argv` writes to its stdout. */
export async function bulk(argv: readonly string[], env: Env): Promise<Bulk> {
	const [file = '', ...args] = argv;
	const child = spawn(file, args, { env, stdio: ['ignore', 'pipe', 'inherit'] });
	let firstMs = 0;
	let bytes = 0;
	child.stdout.on('data', (chunk: Buffer) => {
		if (bytes === 0) firstMs = systemClock.monotonic();
		bytes += chunk.length;
	});
	await once(child, 'close');
	return { bytes, ms: systemClock.monotonic() - firstMs };
}

/** Of what `argv` writes to the terminal that it runs on. */
async function flood(argv: readonly string[], env: Env): Promise<Bulk> {
	const [file = '', ...args] = argv;
	let [bytes, firstMs] = [0, 0];
	await new Promise<void>((resolve) => {
		const launch = { file, args, env: { ...env, TERM: 'xterm' }, cwd: '/' };
		startOnPty(launch, { columns: 80, rows: 24 }, undefined, {
			onData: (_stream, chunk) => {
				if (bytes === 0) firstMs = systemClock.monotonic();
				bytes += chunk.length;
			},
			onEnd: () => resolve(),
			onExit: () => {},
		});
	});
	return { bytes, ms: systemClock.monotonic() - firstMs };
}

async function wholeMs(argv: readonly string[], env: Env): Promise<number> {
	const [file = '', ...args] = argv;
	const startedMs = systemClock.monotonic();
	const child = spawn(file, args, { env, stdio: ['ignore', 'ignore', 'inherit'] });
	const [code] = (await once(child, 'close')) as [number | null];
	if (code !== 0) throw new Error(`${argv.join(' ')} ended with ${code}`);
	return systemClock.monotonic() - startedMs;
}
