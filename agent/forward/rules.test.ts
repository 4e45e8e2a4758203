import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Clock, systemClock } from '../../kit/clock.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { isNever, normalized } from './address.ts';
import { Connector } from './connector.ts';
import { routeGateways } from './gateways.ts';
import { parseTable, readListeners } from './listeners.ts';
import { parsePattern } from './pattern.ts';
import { closedAddresses } from './resolve.ts';
import { ForwardJudge, type ForwardRules } from './rules.ts';

const UID = 1000;
const NOTHING: ForwardRules = { own: true, allow: [], never: [] };
const own = (port: number, address = '127.0.0.1') => ({ address, port, uid: UID });

/** Of a connection that its client waits for. */
const wanted = new AbortController().signal;

function judge(rules: Partial<ForwardRules> = {}, ownAddresses: string[] = ['10.0.0.5']): ForwardJudge {
	return new ForwardJudge({ ...NOTHING, ...rules }, { uid: UID, ownAddresses });
}

describe('addresses', () => {
	test.each([
		['::ffff:127.0.0.1', '127.0.0.1'],
		['::FFFF:a9fe:a9fe', '169.254.169.254'],
		['::1', '0:0:0:0:0:0:0:1'],
		['fe80::1%eth0', 'fe80:0:0:0:0:0:0:1'],
		['64:ff9b::10.0.0.1', '64:ff9b:0:0:0:0:a00:1'],
		['127.1', undefined],
		['0x7f000001', undefined],
		['', undefined],
	])('%s is %s', (text, expected) => expect(normalized(text)).toBe(expected));

	test.each([
		'0.0.0.0',
		'0.1.2.3',
		'169.254.169.254',
		'::ffff:169.254.0.1',
		'224.0.0.1',
		'255.255.255.255',
		'::',
		'::ffff:0.0.0.0',
		'fe80::1',
		'ff02::1',
		'64:ff9b::127.0.0.1',
		'2002:7f00:1::',
		'2001:0:1::',
		'::127.0.0.1',
		'fd00:ec2::254',
	])('%s is never reached, whatever is listed', (address) => {
		const verdict = judge({ allow: ['0.0.0.0/0:*', '[::/0]:*'] }).judge({ host: 'x.example', port: 80 }, [address], []);
		expect([isNever(normalized(address) ?? ''), verdict.kind]).toEqual([true, 'refused']);
	});

	test.each(['127.0.0.1', '::1', '10.0.0.1', '8.8.8.8', '2606:4700::1'])('%s may be', (address) => {
		expect(isNever(normalized(address) ?? '')).toBe(false);
	});

	test('normalizing gives one form, which is stable', () => {
		fc.assert(
			fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (address) => {
				const once = normalized(address);
				expect(once === undefined ? undefined : normalized(once)).toBe(once);
				expect(once).toBeDefined();
			}),
		);
	});
});

describe('what a person may write as a host', () => {
	test.each([
		'2130706433',
		'0x7f.1',
		'127.1',
		'0177.0.0.1',
		'x.0x7f',
		'a b',
		'-',
		'http://x',
		'127.0.0.1:80',
		'*.x',
		'x'.repeat(300),
	])('%s is refused before anybody resolves it', async (host) => {
		const resolved: string[] = [];
		const connector = new Connector({
			clock: new VirtualClock(),
			judge: async () => judge({ allow: ['0.0.0.0/0:*'] }),
			// An address that is allowed, as a resolver takes some of these for one.
			resolve: async (name) => {
				resolved.push(name);
				return ['203.0.113.7'];
			},
			listeners: () => [own(80)],
		});
		await expect(connector.connect({ host, port: 80 }, wanted)).rejects.toMatchObject({
			reason: 'FORWARD_ADDRESS_DENIED',
		});
		expect(resolved).toEqual([]);
	});

	test.each([0, 65_536, 1.5, Number.NaN])('port %s is none', (port) => {
		expect(ForwardJudge.misfit({ host: '', port })).toMatch(/not a port/);
	});
});

describe('a verdict', () => {
	const loopback = ['127.0.0.1', '::1'];

	test("the account's own socket is reached, by loopback alone", () => {
		const here = { kind: 'connect', address: '127.0.0.1', onlyIfOwn: true };
		expect(judge().judge({ host: '', port: 80 }, loopback, [own(80)])).toEqual(here);
		expect(judge().judge({ host: 'localhost', port: 80 }, ['127.0.0.1'], [own(80, '0.0.0.0')])).toEqual(here);
		expect(judge().judge({ host: '', port: 80 }, loopback, [own(80, normalized('::1'))])).toMatchObject({
			address: normalized('::1'),
		});
		expect(judge().judge({ host: '10.0.0.5', port: 80 }, ['10.0.0.5'], [own(80, '0.0.0.0')]).kind).toBe('refused');
	});

	test("another account's socket is not, also when both have one", () => {
		const other = { address: '127.0.0.1', port: 80, uid: 0 };
		for (const listeners of [
			[],
			[other],
			[own(80), other],
			[own(80, '0.0.0.0'), other],
			[own(81)],
			[own(80), { ...other, address: normalized('::') ?? '' }],
		])
			expect(judge().judge({ host: '', port: 80 }, ['127.0.0.1'], listeners).kind).toBe('refused');
	});

	test('without forward.own nothing on loopback is reached that is not listed', () => {
		expect(judge({ own: false }).judge({ host: '', port: 80 }, loopback, [own(80)]).kind).toBe('refused');
		const listed = judge({ own: false, allow: ['127.0.0.1:80'] });
		expect(listed.judge({ host: '', port: 80 }, loopback, []).kind).toBe('connect');
	});

	test('what local policy lists is reached; what it forbids is not, though listed', () => {
		const rules = {
			allow: ['10.1.0.0/16:8000-8999', 'db.internal:5432', '*.lab.internal:*', '127.0.0.1:9100'],
			never: ['10.1.9.0/24'],
		};
		const at = (host: string, port: number, ...addresses: string[]) =>
			judge(rules).judge({ host, port }, addresses, []).kind;
		expect(at('10.1.2.3', 8080, '10.1.2.3')).toBe('connect');
		expect(at('10.1.2.3', 80, '10.1.2.3')).toBe('refused');
		expect(at('10.1.9.3', 8080, '10.1.9.3')).toBe('refused');
		expect(at('::ffff:10.1.9.3', 8080, '::ffff:10.1.9.3')).toBe('refused');
		expect(at('db.internal', 5432, '192.168.3.4')).toBe('connect');
		expect(at('DB.internal.', 5432, '192.168.3.4')).toBe('connect');
		expect(at('evil-db.internal', 5432, '192.168.3.4')).toBe('refused');
		expect(at('a.lab.internal', 1, '192.168.3.4')).toBe('connect');
		expect(at('lab.internal', 1, '192.168.3.4')).toBe('refused');
		expect(at('127.0.0.1', 9100, '127.0.0.1')).toBe('connect');
	});

	test('a name that is listed leads neither to this host nor to anything that is never reached', () => {
		const rules = { allow: ['*.internal:*'] };
		for (const address of ['127.0.0.1', '::1', '::ffff:127.0.0.1', '10.0.0.5', '169.254.169.254', '0.0.0.0'])
			expect(judge(rules).judge({ host: 'a.internal', port: 22 }, [address], []).kind, address).toBe('refused');
	});

	test('one bad address among good ones refuses them all', () => {
		expect(
			judge({ allow: ['*.internal:*'] }).judge({ host: 'a.internal', port: 22 }, ['10.1.1.1', '169.254.169.254'], [])
				.kind,
		).toBe('refused');
	});
});

describe('rebinding', () => {
	test('a name is resolved once, and what was judged is what is connected to', async () => {
		await using server = createServer((socket) => socket.on('error', () => {}).end('hello')).listen(0, '127.0.0.1');
		await once(server, 'listening');
		const { port } = server.address() as { port: number };
		const answers = [['127.0.0.1'], ['169.254.169.254']];
		let asked = 0;
		const resolve = async () => answers[asked++] ?? [];
		const clock = new VirtualClock();
		const connector = new Connector({ clock, judge: async () => judge(), resolve, listeners: () => [own(port)] });
		const socket = await connector.connect({ host: 'rebind.example', port }, wanted);
		expect([asked, socket.remoteAddress]).toEqual([1, '127.0.0.1']);
		socket.destroy();
		await expect(connector.connect({ host: 'rebind.example', port }, wanted)).rejects.toMatchObject({
			reason: 'FORWARD_ADDRESS_DENIED',
		});
	});

	test('a port that changed hands between the look and the connection gets no byte', async () => {
		const got: Buffer[] = [];
		await using server = createServer((socket) =>
			socket.on('data', (data) => got.push(data)).on('error', () => {}),
		).listen(0, '127.0.0.1');
		await once(server, 'listening');
		const { port } = server.address() as { port: number };
		const looks = [[own(port)], [{ ...own(port), uid: 0 }]];
		const connector = new Connector({
			clock: new VirtualClock(),
			judge: async () => judge(),
			listeners: () => looks.shift() ?? [],
		});
		await expect(connector.connect({ host: '', port }, wanted)).rejects.toThrow(/took the port meanwhile/);
		expect(got).toEqual([]);
	});
});

test('what is kept closed by name is looked for anew for each connection, and while it is not found nothing is connected', async () => {
	await using server = createServer((socket) => socket.on('error', () => {})).listen(0, '127.0.0.1');
	await once(server, 'listening');
	const { port } = server.address() as { port: number };
	const answers: (() => Promise<string[]>)[] = [
		async () => ['192.0.2.1'],
		async () => ['192.0.2.1', '127.0.0.1'],
		async () => [],
		async () => {
			throw new Error('ENOTFOUND');
		},
	];
	const closed = ['198.51.100.0/24', 'gateway.example'];
	const connector = new Connector({
		clock: new VirtualClock(),
		judge: async () =>
			judge({
				allow: [`127.0.0.1:${port}`],
				never: await closedAddresses(closed, async (name) =>
					name === closed[1] ? ((await answers.shift()?.()) ?? []) : [],
				),
			}),
		listeners: () => [],
	});
	const reach = () => connector.connect({ host: '127.0.0.1', port }, wanted);
	(await reach()).destroy();
	await expect(reach()).rejects.toMatchObject({ reason: 'FORWARD_ADDRESS_DENIED' });
	for (const why of ['no address', 'ENOTFOUND'])
		await expect(reach()).rejects.toMatchObject({
			reason: 'FORWARD_UNREACHABLE',
			message: expect.stringMatching(new RegExp(`gateway.example is kept closed .*${why}`)),
		});
});

describe('a connection that its client gave up', () => {
	test.each(['while its name is resolved', 'while it is dialled'])('%s is not made', async (when) => {
		await using server = createServer((socket) => socket.on('error', () => {})).listen(0, '127.0.0.1');
		await once(server, 'listening');
		const { port } = server.address() as { port: number };
		const client = new AbortController();
		const resolve = async () => {
			if (when === 'while its name is resolved') client.abort();
			return ['127.0.0.1'];
		};
		const timers = new VirtualClock();
		let cancelled = 0;
		const clock: Clock = {
			...systemClock,
			setTimer: (callback, ms) => {
				const timer = timers.setTimer(callback, ms);
				queueMicrotask(() => client.abort());
				return {
					cancel: () => {
						cancelled += 1;
						timer.cancel();
					},
				};
			},
		};
		const connector = new Connector({ clock, judge: async () => judge(), resolve, listeners: () => [own(port)] });
		await expect(connector.connect({ host: 'a.example', port }, client.signal)).rejects.toMatchObject({
			reason: 'FORWARD_UNREACHABLE',
			message: expect.stringContaining('given up'),
		});
		expect(cancelled).toBe(when === 'while it is dialled' ? 1 : 0);
	});
});

describe('tables of the kernel', () => {
	test('show this very process as the owner of what it listens on, IPv4 and IPv6', async () => {
		for (const host of ['127.0.0.1', '::1', '0.0.0.0', '::']) {
			await using server = createServer().listen(0, host);
			await once(server, 'listening');
			const { port } = server.address() as { port: number };
			const address = normalized(host);
			// The same number at another address may be anybody's.
			const found = readListeners().filter((each) => each.port === port && each.address === address);
			expect(found).toEqual([{ address, port, uid: process.getuid?.() }]);
		}
	});

	test('are read to the first row that is no listener, and never throw', () => {
		const row = (state: string, uid: string) =>
			`   0: 0100007F:1F90 00000000:0000 ${state} 00000000:00000000 00:00000000 00000000  ${uid} 0 1 1`;
		expect(parseTable(['head', row('0A', '7'), row('01', '8'), row('0A', '9')].join('\n'))).toEqual([
			{ address: '127.0.0.1', port: 8080, uid: 7 },
		]);
		fc.assert(fc.property(fc.string(), (text) => Array.isArray(parseTable(text))));
	});

	test('routers are found in both', () => {
		const root = mkdtempSync(join(tmpdir(), 'gpuaas-routes-'));
		mkdirSync(join(root, 'net'));
		writeFileSync(
			join(root, 'net', 'route'),
			'Iface\tDestination\tGateway\neth0\t00000000\t0101A8C0\t0003\neth0\t0001A8C0\t00000000\t0001\n',
		);
		writeFileSync(
			join(root, 'net', 'ipv6_route'),
			`${'0'.repeat(32)} 00 ${'0'.repeat(32)} 00 fe800000000000000000000000000001 00000400 0 0 3 eth0\n`,
		);
		expect(routeGateways(root)).toEqual(['192.168.1.1', 'fe80:0:0:0:0:0:0:1']);
		expect(routeGateways(join(root, 'none'))).toEqual([]);
		rmSync(root, { recursive: true });
	});
});

test('a pattern is one or is refused', () => {
	for (const good of [
		'10.0.0.1:80',
		'10.0.0.0/8:*',
		'[::1]:80',
		'[fd00::/8]:1-2',
		'name:80',
		'*.x.y:80',
		'localhost:80',
	])
		expect(parsePattern(good), good).toBeDefined();
	for (const bad of [
		'',
		'10.0.0.1',
		':80',
		'10.0.0.1:0',
		'10.0.0.1:9-8',
		'10.0.0.1:70000',
		'[name]:80',
		'::1:80',
		'10.0.0.0/99:80',
		'*:80',
		'a*b:1',
		'127.1:80',
	])
		expect(parsePattern(bad), bad).toBeUndefined();
	fc.assert(
		fc.property(fc.string(), (text) =>
			[undefined, 'object'].includes(parsePattern(text) === undefined ? undefined : 'object'),
		),
	);
});
