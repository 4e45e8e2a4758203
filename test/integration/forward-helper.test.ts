import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { encodeForwardTask } from '../../agent/forward/forward-task.ts';
import { routeGateways } from '../../agent/forward/gateways.ts';
import { readListeners } from '../../agent/forward/listeners.ts';
import { bridge } from '../../channel/bridge.ts';
import { Mux } from '../../channel/mux.ts';
import { streamPipe } from '../../channel/pipe.ts';
import { eventually } from '../eventually.ts';
import { lacks } from '../tools.ts';
import { HelperFiles } from './helper-files.ts';

/** The real helper as nobody, real services of nobody and of root, and curl at the front. */
describe.skipIf(lacks('root', 'setpriv', 'python3', 'curl'))('the forward helper', () => {
	let files: HelperFiles;
	const started: ChildProcess[] = [];
	const servers: Server[] = [];
	beforeAll(() => {
		files = new HelperFiles();
	});
	afterEach(() => {
		for (const child of started.splice(0)) child.kill('SIGKILL');
		for (const server of servers.splice(0)) server.close();
	});
	afterAll(() => files[Symbol.dispose]());

	/** python's own web server, as nobody or as root; its port. */
	async function pythonServer(as: 'nobody' | 'root', host = '127.0.0.1'): Promise<number> {
		const argv = ['python3', '-u', '-m', 'http.server', '0', '--bind', host, '--directory', '/usr/share'];
		const child = as === 'nobody' ? files.asNobody(argv) : spawn('python3', argv.slice(1));
		started.push(child);
		const [line] = (await once(child.stdout as NodeJS.ReadableStream, 'data')) as [Buffer];
		const port = Number(/port (\d+)/.exec(String(line))?.[1]);
		await eventually('it listens', () => Promise.resolve(readListeners().some((each) => each.port === port)));
		return port;
	}

	/** What the command does: a local listener whose connections are channels to the helper. */
	async function forward(port: number, host = '', rules = { own: true, allow: [] as string[], never: [] as string[] }) {
		const child = files.start('forward', encodeForwardTask({ target: { host, port }, rules }));
		started.push(child);
		const mux = new Mux({ pipe: streamPipe(child.stdout, child.stdin) });
		const ended = mux.run().catch(() => {});
		const refusals: string[] = [];
		const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
			socket.on('error', () => {});
			mux.open().then(
				(channel) => {
					void bridge(socket, channel);
					socket.resume();
				},
				(error: { reason: string }) => {
					refusals.push(error.reason);
					socket.resetAndDestroy();
				},
			);
		}).listen(0, '127.0.0.1');
		servers.push(server);
		await once(server, 'listening');
		return { url: `http://127.0.0.1:${(server.address() as { port: number }).port}`, refusals, child, ended, mux };
	}

	async function curl(...argv: string[]): Promise<{ code: number; stdout: string }> {
		const child = spawn('curl', ['--silent', '--show-error', '--max-time', '30', ...argv]);
		let stdout = '';
		child.stdout.on('data', (data: Buffer) => {
			stdout += data.toString('latin1');
		});
		const [code] = (await once(child, 'close')) as [number];
		return { code, stdout };
	}

	test("curl reads the account's own server through it, many at once", async () => {
		const { url, mux } = await forward(await pythonServer('nobody'));
		const pages = await Promise.all(Array.from({ length: 20 }, () => curl(`${url}/`)));
		expect(pages.map(({ code, stdout }) => [code, stdout.includes('Directory listing')])).toEqual(
			Array(20).fill([0, true]),
		);
		await eventually('all channels are closed', () => Promise.resolve(mux.channelCount === 0));
	});

	test("root's server is not reached: by its port, its name, mapped, decimal or whatever form", async () => {
		const port = await pythonServer('root');
		for (const host of [
			'',
			'127.0.0.1',
			'localhost',
			'::ffff:127.0.0.1',
			'2130706433',
			'0x7f000001',
			'127.1',
			'0.0.0.0',
			'::',
		]) {
			const { url, refusals } = await forward(port, host);
			expect((await curl(`${url}/`)).code, host).not.toBe(0);
			expect(refusals, host).toEqual(['FORWARD_ADDRESS_DENIED']);
		}
	});

	test("root's server is reached where local policy lists it", async () => {
		const port = await pythonServer('root');
		const { url } = await forward(port, '127.0.0.1', { own: false, allow: [`127.0.0.1:${port}`], never: [] });
		expect((await curl(`${url}/`)).code).toBe(0);
	});

	test('the routers of this host are not reached, though local policy lists everything', async (context) => {
		const [router] = routeGateways();
		if (router === undefined) return context.skip();
		const { url, refusals } = await forward(80, router, { own: true, allow: ['0.0.0.0/0:*', '[::/0]:*'], never: [] });
		expect((await curl(`${url}/`)).code).not.toBe(0);
		expect(refusals).toEqual(['FORWARD_ADDRESS_DENIED']);
	});

	test('it does not start while a gateway that is kept closed by name can not be found', async () => {
		const rules = { own: true, allow: ['0.0.0.0/0:*'], never: ['gateway.does-not-resolve.invalid'] };
		const child = files.start('forward', encodeForwardTask({ target: { host: '10.0.0.1', port: 8443 }, rules }));
		started.push(child);
		let stderr = '';
		child.stderr?.on('data', (data: Buffer) => {
			stderr += data.toString();
		});
		const [code] = (await once(child, 'close')) as [number];
		expect([code, stderr]).toEqual([1, expect.stringContaining('gateway.does-not-resolve.invalid is kept closed')]);
	});

	test('a port where nobody listens is refused, and the forward goes on', async () => {
		const port = await pythonServer('nobody');
		const { url, refusals, child } = await forward(port);
		started.find((each) => each !== child)?.kill('SIGKILL');
		await eventually('it is refused', async () => (await curl(`${url}/`)).code !== 0 && refusals.length > 0);
		expect(child.exitCode).toBeNull();
	});

	test('it ends with its client, and leaves nothing', async () => {
		const { child } = await forward(await pythonServer('nobody'));
		child.stdin?.end();
		const [code] = (await once(child, 'close')) as [number];
		expect(code).toBe(0);
	});
});
