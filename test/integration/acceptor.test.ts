import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import {
	ACCEPTOR_LIMITS_DEFAULT,
	Acceptor,
	type AcceptorLimits,
	type Turned,
} from '../../control-plane/gateway/acceptor.ts';
import { type Clock, systemClock } from '../../kit/clock.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { eventually } from '../eventually.ts';

/** Two hosts of one segment: loopback has several IPv4 addresses and one of IPv6, so the group is told. */
const X = '127.0.0.2';
const Y = '127.0.0.3';

const ends: (() => void)[] = [];
afterEach(() => {
	for (const end of ends.splice(0)) end();
});

async function start(limits: Partial<AcceptorLimits>, clock: Clock = systemClock) {
	const begun: { readonly from: string; readonly peer: string; readonly socket: Socket }[] = [];
	const turned: Turned[] = [];
	const acceptor = new Acceptor(
		clock,
		{ ...ACCEPTOR_LIMITS_DEFAULT, firstStreamMs: 600_000, ...limits },
		(socket) => {
			const from = socket.remoteAddress ?? '';
			begun.push({ from, peer: `${from}:${socket.remotePort}`, socket });
		},
		(why) => void turned.push(why),
		() => 'one',
	);
	const port = await acceptor.listen('0.0.0.0', 0);
	const dial = async (localAddress: string) => {
		const socket = connect({ host: '127.0.0.1', port, localAddress });
		socket.on('error', () => {});
		ends.push(() => socket.destroy());
		const { length } = turned;
		const { connections } = acceptor;
		await once(socket, 'connect');
		await eventually('it is taken or turned away', () => turned.length > length || acceptor.connections > connections);
		return socket;
	};
	ends.push(() => {
		acceptor.stop();
		acceptor.cutAll();
	});
	return { acceptor, begun, turned, dial };
}

test('what is open counts with its address, not with its group', async () => {
	const { acceptor, begun, turned, dial } = await start({ connectionsPerAddressMax: 3 });
	for (const address of [X, X, X, Y, Y, Y]) await dial(address);
	expect(turned).toEqual([]);
	await eventually('all have begun', () => begun.length === 6);
	await dial(X);
	expect([turned, acceptor.connections]).toEqual([['address'], 6]);
});

test('a host that comes too often is slowed down, and its neighbour is not', async () => {
	const { turned, dial } = await start({ handshakesPerSecondPerAddress: 1e-6, handshakesBurstPerAddress: 2 });
	for (const address of [X, X, X]) await dial(address);
	expect(turned).toEqual(['address_rate']);
	await dial(Y);
	expect(turned).toEqual(['address_rate']);
});

test('who has no stream yet holds places of the group, which its addresses get in turn', async () => {
	const { acceptor, begun, dial } = await start({ handshakesAtOncePerGroupMax: 1 });
	for (const address of [X, X, X, X, Y]) await dial(address);
	for (let count = 1; count < 5; count += 1) {
		await eventually('the next has begun', () => begun.length === count);
		acceptor.arrived(begun.at(-1)?.peer ?? '');
	}
	await eventually('all have begun', () => begun.length === 5);
	expect(begun.map(({ from }) => from)).toEqual([X, X, Y, X, X]);
});

test('handshakes of all addresses together keep their pace, however many come', async () => {
	const clock = new VirtualClock();
	// A tenth of a second's at once.
	const { begun, turned, dial } = await start({ handshakesPerSecond: 20 }, clock);
	for (const address of [X, Y, X, Y, X]) await dial(address);
	expect(begun.length).toBe(2);
	for (const count of [3, 4, 5]) {
		clock.advance(49);
		expect(begun.length).toBe(count - 1);
		clock.advance(1);
		expect(begun.length).toBe(count);
	}
	expect(turned).toEqual([]);
});

test('so many wait for their handshake; one more is cut', async () => {
	const { acceptor, begun, turned, dial } = await start({ handshakesAtOnceMax: 1, waitingMax: 2 });
	for (const address of [X, X, X]) await dial(address);
	await eventually('the first has begun', () => begun.length === 1);
	const last = await dial(X);
	if (!last.destroyed) await once(last, 'close');
	expect(turned).toEqual(['waiting']);
	expect(acceptor.connections).toBe(3);
});
