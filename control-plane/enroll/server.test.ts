import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { expect, it } from 'vitest';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { Connections, ENROLL_LIMITS_DEFAULT } from './server.ts';

function socketOf(remoteAddress: string) {
	const socket = Object.assign(new EventEmitter(), { remoteAddress, isCut: false, destroy: () => {} });
	socket.destroy = () => {
		socket.isCut = true;
		socket.emit('close');
	};
	return socket;
}

it('counts the connections of one IPv6 /64 together, as those of one IPv4 address', () => {
	const limits = { ...ENROLL_LIMITS_DEFAULT, connectionsPerAddressMax: 2 };
	const connections = new Connections(new VirtualClock(), silentLogger, limits);
	const dial = (address: string) => {
		const socket = socketOf(address);
		connections.admit(socket as unknown as Socket);
		return socket;
	};
	const first = dial('2001:db8:0:1::1');
	expect(dial('2001:db8:0:1:ffff::2').isCut).toBe(false);
	expect(dial('2001:db8:0:1::3').isCut).toBe(true);
	expect(dial('2001:db8:0:2::1').isCut).toBe(false);
	expect([dial('192.0.2.1'), dial('::ffff:192.0.2.1'), dial('192.0.2.1')].map(({ isCut }) => isCut)).toEqual([
		false,
		false,
		true,
	]);
	first.destroy();
	expect(dial('2001:db8:0:1::3').isCut).toBe(false);
	expect(connections.size).toBe(5);
});
