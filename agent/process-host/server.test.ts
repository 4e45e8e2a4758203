/** The host's socket, by a client that doesn't keep to the rules. */
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { spokenVersions } from './greeting.ts';
import { HostFixture, launched, request, resultOf, run, until } from './host-fixture.ts';
import { attachWindowBytes, connectionsMax, recordBytesMax, recordOverheadBytes } from './limits.ts';
import { encodeJson, type Frame, FrameDecoder } from './protocol.ts';

let fixture: HostFixture;
beforeAll(async () => {
	fixture = await HostFixture.start();
});
afterAll(() => fixture[Symbol.asyncDispose]());

class RawClient {
	readonly frames: Frame[] = [];
	readonly socket: Socket;
	isClosed = false;

	constructor() {
		const decoder = new FrameDecoder();
		this.socket = connect(join(fixture.directory, 'socket'));
		this.socket.on('data', (chunk: Buffer) => this.frames.push(...decoder.push(chunk)));
		this.socket.on('error', () => undefined);
		this.socket.on('close', () => {
			this.isClosed = true;
		});
	}

	send(message: object): void {
		this.socket.write(encodeJson(message));
	}

	async call(id: number, method: string, params: object): Promise<Record<string, unknown>> {
		this.send({ id, method, params });
		return until(() => {
			for (const frame of this.frames) if (frame.kind === 'json' && frame.message.id === id) return frame.message;
			throw new Error(`no answer to ${method}`);
		});
	}

	get outputBytes(): number {
		return this.frames.reduce((sum, frame) => sum + (frame.kind === 'output' ? frame.bytes.length : 0), 0);
	}
}

const hello = { version: spokenVersions[0] };

it('sends no more output than it has credit for', async () => {
	const wanted = await launched(
		fixture.host,
		request(['head', '-c', '4194304', '/dev/zero'], { outputCapBytes: 16 << 20 }),
	);
	await resultOf(fixture.host, wanted);
	const client = new RawClient();
	await client.call(1, 'hello', hello);
	const { taskId, attempt } = wanted;
	await client.call(2, 'attach', { taskId, attempt, fromOffset: 0, subscription: 5 });
	// An answer to a later request: whatever the host sends unasked is here by then.
	await client.call(3, 'list', {});
	const max = attachWindowBytes + recordBytesMax;
	expect(client.outputBytes).toBeGreaterThan(attachWindowBytes / 2);
	expect(client.outputBytes).toBeLessThanOrEqual(max);
	client.send({ method: 'credit', params: { subscription: 5, bytes: recordOverheadBytes + 100_000 } });
	await client.call(4, 'list', {});
	expect(client.outputBytes).toBeLessThanOrEqual(max + 100_000 + recordBytesMax);
	client.socket.destroy();
});

it.each<[string, (client: RawClient) => void]>([
	['a request before hello', (client) => client.send({ id: 1, method: 'list', params: {} })],
	['a frame over the bound', (client) => client.socket.write(Buffer.from([255, 255, 255, 255, 1]))],
	['no JSON', (client) => client.socket.write(Buffer.from([0, 0, 0, 2, 1, 0x7b]))],
	['no params', (client) => client.send({ id: 1, method: 'hello' })],
])('cuts a connection that sends %s, and no other', async (_name, act) => {
	const client = new RawClient();
	act(client);
	await until(() => expect(client.isClosed).toBe(true));
	expect(client.frames).toEqual([]);
	expect((await run(fixture.host, request(['true']))).result.end).toEqual({ kind: 'EXITED', exitCode: 0 });
});

it('refuses a client of another version, with a reason', async () => {
	const client = new RawClient();
	const answer = await client.call(1, 'hello', { version: Math.max(...spokenVersions) + 1 });
	expect(answer.error).toMatchObject({ code: 'INVALID_ARGUMENT' });
	client.send({ id: 2, method: 'list', params: {} });
	await until(() => expect(client.isClosed).toBe(true));
});

it('answers malformed requests with an error and goes on', async () => {
	const client = new RawClient();
	await client.call(1, 'hello', hello);
	for (const [id, method, params] of [
		[2, 'no-such-method', {}],
		[3, 'result', { taskId: '../../etc', attempt: 1 }],
		[4, 'cancel', { taskId: 'a', attempt: 1, graceMs: -1 }],
		[5, 'attach', { taskId: 'a', attempt: 1, fromOffset: 0.5, subscription: 1 }],
	] as const) {
		expect((await client.call(id, method, params)).error).toMatchObject({ reason: 'INVALID_REQUEST' });
	}
	expect((await client.call(6, 'list', {})).error).toBeUndefined();
	client.socket.destroy();
});

it('takes a cancel with the longest grace that the contract allows', async () => {
	const client = new RawClient();
	await client.call(1, 'hello', hello);
	const answer = await client.call(2, 'cancel', { taskId: 'a', attempt: 1, graceMs: 3_600_000 });
	expect(answer.error).toBeUndefined();
	client.socket.destroy();
});

it('takes no more connections than it may have', async () => {
	const clients = Array.from({ length: connectionsMax + 3 }, () => new RawClient());
	await until(() => expect(clients.filter((client) => client.isClosed).length).toBeGreaterThanOrEqual(3));
	for (const client of clients) client.socket.destroy();
	await until(() => expect(clients.every((client) => client.isClosed)).toBe(true));
	expect((await fixture.host.list()).length).toBeGreaterThan(0);
});
