import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startOnPorts } from './claim-ports.ts';
import { type DataFolder, openDataFolder, readPorts } from './data-folder.ts';
import { PORT_NAMES, type Ports } from './ports.ts';

let root: string;
const thieves: Server[] = [];
beforeEach(() => {
	root = mkdtempSync(join(tmpdir(), 'gpuaas-ports-'));
});
afterEach(() => {
	for (const thief of thieves.splice(0)) thief.close();
	rmSync(root, { recursive: true });
});

async function listen(port = 0): Promise<Server> {
	const server = createServer().listen({ host: '127.0.0.1', port, exclusive: true });
	await once(server, 'listening');
	return server;
}

async function steal(port?: number): Promise<number> {
	const thief = await listen(port);
	thieves.push(thief);
	return (thief.address() as { port: number }).port;
}

/** Binds what it is given, as the control plane does. */
class Listeners implements AsyncDisposable {
	readonly #ports: Ports;
	readonly #servers: Server[] = [];

	constructor({ ports }: DataFolder) {
		this.#ports = ports;
	}

	async ready(): Promise<void> {
		for (const name of PORT_NAMES) this.#servers.push(await listen(this.#ports[name]));
	}

	async [Symbol.asyncDispose](): Promise<void> {
		for (const server of this.#servers) server.close();
	}
}

/** `before`: what happens between the picking of ports and their binding. */
function start(before: (folder: DataFolder, pick: number) => Promise<unknown>, chosen: Partial<Ports> = {}) {
	const picks: Ports[] = [];
	const told: string[] = [];
	const started = startOnPorts({
		root,
		chosen,
		policy: '',
		start: async (folder) => {
			picks.push(folder.ports);
			await before(folder, picks.length);
			return new Listeners(folder);
		},
		ready: (child) => child.ready(),
		onTaken: async (names) => void told.push(...names),
		signal: new AbortController().signal,
	});
	return { started, picks, told };
}

test('a picked port that is taken before it is bound is exchanged, and the folder keeps the new one', async () => {
	const { started, picks, told } = start(({ ports }, pick) => (pick === 1 ? steal(ports.gateway) : Promise.resolve()));
	const { folder, child } = await started;
	expect(told).toEqual(['gateway']);
	expect(picks).toHaveLength(2);
	expect(folder.ports.gateway).not.toBe(picks[0]?.gateway);
	expect(await readPorts(root)).toEqual(folder.ports);
	await child[Symbol.asyncDispose]();
});

test('one that a person asked for is not exchanged', async () => {
	const gateway = await steal();
	const { started, picks } = start(async () => {}, { gateway });
	await expect(started).rejects.toMatchObject({ code: 'EADDRINUSE' });
	expect(picks).toHaveLength(1);
});

test('nor is one that an earlier start had, which agents know', async () => {
	const { ports } = await openDataFolder(root, {}, '');
	const { started, picks } = start(() => steal(ports.enroll));
	await expect(started).rejects.toMatchObject({ code: 'EADDRINUSE' });
	expect(picks).toEqual([ports]);
	expect(await readPorts(root)).toEqual(ports);
});

test('it gives up where every port is taken, and leaves none of them to the next start', async () => {
	const { started, picks } = start(({ ports }) => steal(ports.api));
	await expect(started).rejects.toMatchObject({ code: 'EADDRINUSE' });
	expect(picks).toHaveLength(3);
	expect(await readPorts(root)).toEqual({});
});

test('another failure is told as it is, once', async () => {
	const { started, picks } = start(() => Promise.reject(new Error('no such database')));
	await expect(started).rejects.toThrow('no such database');
	expect(picks).toHaveLength(1);
});
