import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Client, createClient, type Interceptor } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import type { Program } from '../../agent/pty-host/program.ts';
import { startOnPty } from '../../agent/pty-host/pty-program.ts';
import { Screen } from '../../agent/pty-host/screen.ts';
import { Turns } from '../../agent/pty-host/turns.ts';
import { putContext } from '../../cli/contexts.ts';
import { ApiSessions } from '../../cli/sessions.ts';
import { openStore } from '../../control-plane/store/open.ts';
import type { Tx } from '../../control-plane/store/port/store.ts';
import type { Plan } from '../../control-plane/store/port/unit.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { TerminalService } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { bindingRow } from '../contract/store/rows.ts';
import { eventually } from '../eventually.ts';
import { killQuietly, processes, type Ran, type Ready, UpWorld } from './up-world.ts';

export const GPUAAS = fileURLToPath(new URL('../../gpuaas', import.meta.url));

/** The whole product, and people who sit in front of it. */
export class TerminalsWorld implements AsyncDisposable {
	readonly up = new UpWorld();
	readonly #clients = new Map<string, Client<typeof TerminalService>>();
	#ready: Ready | undefined;

	/** `prepare` makes what is to be there before the product starts; the command that it returns starts the product. */
	static async start(prepare: (world: TerminalsWorld) => readonly string[] = () => []): Promise<TerminalsWorld> {
		const world = new TerminalsWorld();
		try {
			world.up.within = prepare(world);
			world.#ready = await world.up.up();
		} catch (error) {
			await world[Symbol.asyncDispose]();
			throw error;
		}
		return world;
	}

	get node(): string {
		return this.#ready?.node ?? '';
	}

	/** As the bootstrap operator, or with this key: one connection each, since whoever waits asks a hundred times a second. */
	client(key = this.#operatorKey()) {
		const known = this.#clients.get(key) ?? this.newClient(key);
		this.#clients.set(key, known);
		return known;
	}

	/** On a connection of its own. */
	newClient(key = this.#operatorKey()): Client<typeof TerminalService> {
		const authorize: Interceptor = (next) => (request) => {
			request.header.set('authorization', `Bearer ${key}`);
			return next(request);
		};
		const { api: baseUrl, ca } = this.#ready as Ready;
		const transport = createConnectTransport({
			baseUrl,
			httpVersion: '2',
			sessionManager: new ApiSessions(baseUrl, {}, { ca: readFileSync(ca, 'utf8') }),
			interceptors: [authorize],
		});
		return createClient(TerminalService, transport);
	}

	#operatorKey(): string {
		return readFileSync(`${this.up.data}/control-plane/operator.key`, 'utf8').trim();
	}

	/** Somebody in a terminal of 80 by 24 who runs the command. */
	person(...argv: readonly string[]): Person {
		return new Person(GPUAAS, argv, this.up.env());
	}

	/** Somebody in a terminal with a shell of this machine, in which `$GPUAAS` is the command. */
	local(env: Readonly<Record<string, string>> = {}): Person {
		return new Person('/bin/bash', ['--norc', '-i'], { ...this.up.env(), ...env, GPUAAS, PS1: 'here> ' });
	}

	/** Of the newest terminal that is open. */
	async openId(): Promise<string> {
		const [newest] = (await this.client().listTerminals({ node: this.node })).terminals;
		if (newest === undefined) throw new Error('no terminal is open');
		return newest.id;
	}

	/** A project that holds the node in operator mode, and people of it, each with a key. */
	async project(...names: readonly string[]): Promise<readonly Colleague[]> {
		await this.#done('org', 'create', 'acme');
		await this.#done('project', 'create', 'acme/train');
		await this.#done('entitlement', 'grant', 'acme', 'gpu-model/*');
		await this.#done('node', 'assign', this.node, 'acme/train', '--mode', 'operator');
		const people: Colleague[] = [];
		for (const name of names) people.push(await this.#colleague(name));
		return people;
	}

	async #colleague(name: string): Promise<Colleague> {
		const account = `acme/train/${name}`;
		const { principal } = await this.up.json<{ principal: { id: string } }>('service-account', 'create', account);
		const key = (await this.#done('key', 'create', name, '--service-account', account)).trim();
		const binding = await this.#bind(principal.id);
		const env = { ...this.up.env(), GPUAAS_CONFIG_DIR: join(this.up.root, `config-${name}`) };
		const { api, ca } = this.#ready as Ready;
		await putContext({ env }, 'here', { address: api, caPem: readFileSync(ca, 'utf8'), key });
		return {
			id: principal.id,
			key,
			binding,
			person: (...argv) => new Person(GPUAAS, argv, env),
			run: (...argv) => this.up.start(argv, env).ended,
		};
	}

	/** Only owners give and take roles of tenants, and the first owner comes by a login, which needs a provider. */
	async #bind(principalId: string): Promise<string> {
		const id = uuidv7(systemClock.now(), systemRng);
		const row = bindingRow(id, principalId, { role: 'tenant.developer', scope: 'organizations/acme/projects/train' });
		await this.#unit((tx) => tx.access.insertBinding(row));
		return id;
	}

	/** Nobody is told: whoever must notice has to look. */
	async unbind({ binding }: Colleague): Promise<void> {
		await this.#unit((tx) => tx.access.deleteBinding(binding));
	}

	async #unit(plan: (tx: Tx) => Plan<unknown>): Promise<void> {
		const path = join(this.up.data, 'control-plane/control-plane.db');
		await using store = await openStore(path, { clock: systemClock, rng: systemRng, log: silentLogger });
		await store.unit(plan);
	}

	async #done(...argv: readonly string[]): Promise<string> {
		const ran = await this.up.run(...argv);
		if (ran.code !== 0) throw new Error(`${argv.join(' ')}: ${ran.stderr}`);
		return ran.stdout;
	}

	/** The control plane again, with these lines in a section of its configuration. */
	async configure(section: string, lines: string): Promise<void> {
		const path = join(this.up.data, 'control-plane.toml');
		const text = readFileSync(path, 'utf8').split(`[${section}]`)[0];
		writeFileSync(path, `${text}[${section}]\n${lines}\n`);
		await this.restart('control-plane/main');
		await eventually(
			'the node is back',
			// A task: commands may be refused by what was configured.
			async () => (await this.up.run('run', '-n', this.node, '--', 'true')).code === 0,
			90_000,
		);
	}

	/** kill -9 to a daemon, and waits for the next one. */
	async restart(name: string): Promise<void> {
		const before = this.up.pids(name);
		for (const pid of before) killQuietly(pid);
		await eventually(`another ${name}`, () => this.up.pids(name).some((pid) => !before.includes(pid)));
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.up[Symbol.asyncDispose]();
	}
}

/** Another person of the same project. */
export interface Colleague {
	readonly id: string;
	readonly key: string;
	/** The one that gives them their role. */
	readonly binding: string;
	person(...argv: readonly string[]): Person;
	run(...argv: readonly string[]): Promise<Ran>;
}

/** One person's terminal: a real pty with a screen that can be read. */
export class Person implements Disposable {
	/** Once it has exited and all that it wrote is read: the one may be told before the other. */
	readonly exited: Promise<{ readonly exitCode?: number; readonly signal?: number }>;
	readonly #program: Program;
	readonly #screen = new Screen({ columns: 80, rows: 24 }, new Turns(systemClock), () => {});
	#raw = '';

	constructor(file: string, argv: readonly string[], env: Readonly<Record<string, string>>) {
		const exit = Promise.withResolvers<{ readonly exitCode?: number; readonly signal?: number }>();
		const end = Promise.withResolvers<void>();
		this.exited = Promise.all([exit.promise, end.promise]).then(([how]) => how);
		const launch = { file, args: argv, env: { ...env, TERM: 'xterm-256color' } };
		this.#program = startOnPty(launch, { columns: 80, rows: 24 }, undefined, {
			onData: (_stream, bytes) => {
				this.#raw += bytes.toString('latin1');
				this.#screen.feed(bytes);
			},
			onEnd: () => end.resolve(),
			onExit: exit.resolve,
		});
	}

	get pid(): number {
		return this.#program.pid;
	}

	/** All bytes so far, one character each. */
	get raw(): string {
		return this.#raw;
	}

	type(text: string | Uint8Array): void {
		this.#program.write(typeof text === 'string' ? Buffer.from(text) : text, () => {});
	}

	/** Their terminal takes nothing, until it reads on; keys come from it all the same. */
	stall(): void {
		this.#program.pause('stdout');
	}

	readOn(): void {
		this.#program.resume('stdout');
	}

	resize(columns: number, rows: number): void {
		this.#screen.resize({ columns, rows });
		this.#program.resize({ columns, rows });
	}

	/** What can be read on the screen, escape sequences taken away. */
	async screen(): Promise<string> {
		const { bytes } = await this.#screen.snapshot();
		// Of a full-screen program only its own screen: the one below it comes first.
		const shown = bytes.toString('utf8').split(ALTERNATE).at(-1) ?? '';
		// A cell that was never written and one with a space look the same.
		const text = shown
			.replaceAll(SKIPPED, (_, cells: string) => ' '.repeat(Number(cells || 1)))
			.replaceAll(SEQUENCE, '');
		return text.replaceAll(/ +(?=\r?\n|$)/g, '');
	}

	async sees(text: string | RegExp, deadlineMs = 60_000): Promise<void> {
		await eventually(
			`${text} on the screen`,
			async () => {
				const screen = await this.screen();
				const isThere = typeof text === 'string' ? screen.includes(text) : text.test(screen);
				if (!isThere) throw new Error(screen);
				return true;
			},
			deadlineMs,
		);
	}

	/** Types it, and waits for the exit code that follows. */
	async leaves(line: string, code: number): Promise<void> {
		this.type(`${line}\r`);
		const { exitCode } = await this.exited;
		if (exitCode !== code) throw new Error(`it exited with ${exitCode}, not ${code}: ${await this.screen()}`);
	}

	kill(signal: NodeJS.Signals): void {
		process.kill(this.pid, signal);
	}

	/** What its program has started. */
	children(): readonly { readonly pid: number; readonly line: string }[] {
		const listed = readFileSync(`/proc/${this.pid}/task/${this.pid}/children`, 'utf8').trim().split(' ').map(Number);
		return processes().filter(({ pid }) => listed.includes(pid));
	}

	[Symbol.dispose](): void {
		this.#program.destroy();
		try {
			process.kill(-this.pid, 'SIGKILL');
		} catch {
			// Ended by itself.
		}
	}
}

const ALTERNATE = `${String.fromCharCode(27)}[?1049h`;
const SKIPPED = new RegExp(`${String.fromCharCode(27)}\\[(\\d*)C`, 'g');
const SEQUENCE = new RegExp(`${String.fromCharCode(27)}[[0-9;?]*[A-Za-z]`, 'g');
