import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { macOf, mintApiKey } from '../../control-plane/app/iam/api-key.ts';
import { mintPeppers, parsePeppers } from '../../control-plane/app/iam/pepper.ts';
import type { Store, Tx } from '../../control-plane/store/port/store.ts';
import type { Plan } from '../../control-plane/store/port/unit.ts';
import { systemRng } from '../../kit/ids.ts';
import { insertProject } from '../contract/store/projects.ts';
import { bindingRow, credentialRow, principalRow } from '../contract/store/rows.ts';
import { openAt } from '../contract/store/stores.ts';
import { PostgresServer } from '../fakes/postgres.ts';
import { lacks } from '../tools.ts';

const SCOPE = 'organizations/acme/projects/train';
const PEPPERS = mintPeppers(systemRng);

/** A process that decides, asked a line at a time. */
class Replica {
	readonly #process: ChildProcess;
	readonly #lines: AsyncIterator<string>;

	constructor(url: string) {
		const program = join(import.meta.dirname, 'iam-replica-main.ts');
		const child = spawn(process.execPath, [program, url], { stdio: ['pipe', 'pipe', 'inherit'] });
		this.#process = child;
		this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
		child.stdin.write(`${PEPPERS}`);
	}

	async line(): Promise<string> {
		return String((await this.#lines.next()).value);
	}

	async ask(key: string): Promise<string> {
		this.#process.stdin?.write(`${key} ${SCOPE}\n`);
		return await this.line();
	}

	async end(): Promise<void> {
		const ended = new Promise((resolve) => this.#process.once('exit', resolve));
		this.#process.stdin?.end();
		await ended;
	}
}

describe.skipIf(lacks('postgres', 'initdb'))('two processes on one PostgreSQL', () => {
	let server: PostgresServer;
	let store: Store;
	let replicas: Replica[];
	let key: string;

	beforeAll(async () => {
		server = await PostgresServer.start();
		const url = await server.createDatabase();
		store = await openAt(url);
		const minted = mintApiKey('uk', 'test', systemRng);
		key = minted.text;
		const mac = macOf(minted.key, parsePeppers(PEPPERS).current);
		await store.unit(function* (tx) {
			yield* insertProject(tx, 'acme', 'train');
			yield* tx.identities.insertPrincipal(principalRow('ada'));
			yield* tx.apiKeys.insertCredential(credentialRow(minted.key.id, 'ada', { mac, expiresAtMs: 4_000_000_000_000 }));
			yield* tx.access.insertBinding(bindingRow('b', 'ada', { scope: SCOPE }));
		});
		replicas = [new Replica(url), new Replica(url)];
		for (const replica of replicas) expect(await replica.line()).toBe('ready');
	});
	afterAll(async () => {
		for (const replica of replicas) await replica.end();
		await store[Symbol.asyncDispose]();
		await server[Symbol.asyncDispose]();
	});

	const everywhere = async () => await Promise.all(replicas.map((replica) => replica.ask(key)));

	/** What a change does to the next request of each process: no process is told of it. */
	const CHANGES: readonly (readonly [string, (tx: Tx) => Plan<unknown>, string, (tx: Tx) => Plan<unknown>])[] = [
		[
			'a role that is taken away',
			(tx) => tx.access.deleteBinding('b'),
			'SCOPE_NOT_FOUND',
			(tx) => tx.access.insertBinding(bindingRow('b', 'ada', { scope: SCOPE })),
		],
		[
			'a user who is suspended',
			(tx) => tx.identities.updatePrincipal('ada', { disabledAtMs: 1 }),
			'UNAUTHENTICATED',
			(tx) => tx.identities.updatePrincipal('ada', { disabledAtMs: null }),
		],
		[
			'a project that is deleted',
			(tx) => tx.scopes.update(SCOPE, { state: 'deleted' }),
			'SCOPE_NOT_FOUND',
			(tx) => tx.scopes.update(SCOPE, { state: 'active' }),
		],
	];

	test.each(CHANGES)('%s counts in both with the very next request', async (_what, take, refused, give) => {
		expect(await everywhere()).toEqual(['ok', 'ok']);
		await store.unit(take);
		expect(await everywhere()).toEqual([refused, refused]);
		await store.unit(give);
		expect(await everywhere()).toEqual(['ok', 'ok']);
	});

	test('a key that is revoked counts in both with the very next request', async () => {
		expect(await everywhere()).toEqual(['ok', 'ok']);
		await store.unit((tx) => tx.apiKeys.revokeAllOf('ada', 1, 'leaked'));
		expect(await everywhere()).toEqual(['UNAUTHENTICATED', 'UNAUTHENTICATED']);
	});
});
