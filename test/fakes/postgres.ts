import { execFile, spawn } from 'node:child_process';
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { assert, present } from '../../kit/assert.ts';

/**
 * A real PostgreSQL server for tests, from the distribution's own binaries: it listens on a Unix socket only, in a
 * folder of its own, and keeps fsync on unless told otherwise, because what tests ask about is durability. It refuses to run as root, so as
 * root it runs under another uid. One server a test file, a database a test.
 */
const run = promisify(execFile);
/** `nobody`: owns nothing else on the machine. */
const UNPRIVILEGED_ID = 65_534;

/** The folder of initdb and postgres: the newest of Debian's, else whatever PATH has. */
function binaries(): string {
	const root = '/usr/lib/postgresql';
	const versions = existsSync(root) ? readdirSync(root).filter((name) => existsSync(`${root}/${name}/bin/initdb`)) : [];
	const newest = versions.sort((a, b) => Number(a) - Number(b)).at(-1);
	if (newest !== undefined) return `${root}/${newest}/bin`;
	const folder = (process.env.PATH ?? '').split(':').find((path) => existsSync(join(path, 'initdb')));
	return present(folder, 'these tests need PostgreSQL: install the package postgresql');
}

export class PostgresServer implements AsyncDisposable {
	readonly #folder: string;
	readonly #bin: string;
	#server: ReturnType<typeof spawn> | undefined;
	#databases = 0;

	private constructor(folder: string, bin: string) {
		this.#folder = folder;
		this.#bin = bin;
	}

	/** `durable: false`, where nothing is asked about durability: commits don't wait for the disk. */
	static async start({ durable = true }: { readonly durable?: boolean } = {}): Promise<PostgresServer> {
		// Short: a Unix socket's path has at most 107 bytes.
		const folder = mkdtempSync(join(tmpdir(), 'pg-'));
		if (process.getuid?.() === 0) chownSync(folder, UNPRIVILEGED_ID, UNPRIVILEGED_ID);
		const server = new PostgresServer(folder, binaries());
		try {
			const options = ['--auth=trust', '--encoding=UTF8', '--locale=C', '--username=gpuaas', '--no-sync'];
			await run(join(server.#bin, 'initdb'), ['-D', server.#data, ...options], server.#user);
			writeFileSync(
				join(server.#data, 'postgresql.auto.conf'),
				`listen_addresses = ''\nunix_socket_directories = '${folder}'\nfsync = ${durable ? 'on' : 'off'}\nmax_connections = 200\n`,
			);
			await server.boot();
		} catch (error) {
			await server[Symbol.asyncDispose]();
			throw error;
		}
		return server;
	}

	get #data(): string {
		return join(this.#folder, 'data');
	}

	/** Every process of it runs as somebody who may write its folder and nothing else. */
	get #user(): { cwd: string; uid?: number; gid?: number } {
		const isRoot = process.getuid?.() === 0;
		return { cwd: this.#folder, ...(isRoot ? { uid: UNPRIVILEGED_ID, gid: UNPRIVILEGED_ID } : {}) };
	}

	/** Of one database on this server. */
	url(database: string): string {
		return `postgres://gpuaas@localhost/${database}?host=${encodeURIComponent(this.#folder)}`;
	}

	/** A new database: empty, or a copy of the one with this URL, which nobody may use meanwhile. */
	async createDatabase(template?: string): Promise<string> {
		this.#databases += 1;
		const name = `test_${process.pid}_${this.#databases}`;
		const copied = template === undefined ? '' : ` TEMPLATE ${new URL(template).pathname.slice(1)}`;
		await this.query('postgres', `CREATE DATABASE ${name}${copied}`);
		return this.url(name);
	}

	/** As the owner of everything, on a connection of its own. */
	async query(database: string, sql: string): Promise<readonly Record<string, unknown>[]> {
		const url = database.startsWith('postgres:') ? database : this.url(database);
		const client = new pg.Client({ connectionString: url });
		client.on('error', () => {});
		await client.connect();
		try {
			return (await client.query<Record<string, unknown>>(sql)).rows;
		} finally {
			await client.end();
		}
	}

	/** Starts the server process; resolves once it takes connections. */
	async boot(): Promise<void> {
		assert(this.#server === undefined, 'the server runs already');
		const server = spawn(join(this.#bin, 'postgres'), ['-D', this.#data], {
			...this.#user,
			stdio: ['ignore', 'ignore', 'pipe'],
		});
		this.#server = server;
		let log = '';
		await new Promise<void>((resolve, reject) => {
			server.stderr?.on('data', (chunk: Buffer) => {
				// The end of it: whoever asks too early leaves a line each time, thousands while a crash is being recovered from.
				log = (log + chunk.toString()).slice(-65_536);
				if (log.includes('ready to accept connections')) resolve();
			});
			server.on('exit', () => reject(new Error(`PostgreSQL ended:\n${log}`)));
			server.on('error', reject);
		});
	}

	/** `immediate` is a crash: no checkpoint, connections cut. `fast` cuts them and shuts down cleanly. */
	async stop(how: 'fast' | 'immediate'): Promise<void> {
		const server = this.#server;
		if (server === undefined) return;
		this.#server = undefined;
		if (server.exitCode !== null || server.signalCode !== null) return;
		const ended = new Promise((resolve) => server.once('exit', resolve));
		server.kill(how === 'fast' ? 'SIGINT' : 'SIGQUIT');
		await ended;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.stop('immediate');
		rmSync(this.#folder, { recursive: true, force: true });
	}
}
