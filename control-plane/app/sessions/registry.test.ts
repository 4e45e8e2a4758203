import { expect, test } from 'vitest';
import { CloseCode } from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { type AttachedStream, type LiveSession, SessionRegistry } from './registry.ts';

function session(epoch: number, serial = 'ab') {
	const closes: CloseCode[] = [];
	const commands: string[] = [];
	const live: LiveSession = {
		nodeId: 'n',
		epoch,
		serial,
		command: (key) => commands.push(key) > 0,
		close: (code) => void closes.push(code),
	};
	return { live, closes, commands };
}

function upload(change: Partial<AttachedStream> = {}) {
	const closes: CloseCode[] = [];
	const stream: AttachedStream = {
		nodeId: 'n',
		serial: 'ab',
		notAfterMs: 1000,
		close: (code) => void closes.push(code),
		...change,
	};
	return { stream, closes };
}

test('of two sessions of a node the newer one stays, in whatever order they were finished', () => {
	const registry = new SessionRegistry();
	const [first, second] = [session(1), session(2)];
	expect(registry.add(second.live)).toBe(true);
	expect(registry.add(first.live)).toBe(false);
	expect(registry.get('n')).toBe(second.live);
	expect([first.closes, second.closes]).toEqual([[CloseCode.SUPERSEDED], []]);
	// The end of the older one is not the end of the newer.
	registry.remove(first.live);
	expect(registry.isConnected('n')).toBe(true);
	registry.remove(second.live);
	expect(registry.isConnected('n')).toBe(false);
});

test('what lives beside a link ends with the certificate that opened it, and no other', () => {
	const registry = new SessionRegistry();
	const [old, young] = [upload({ notAfterMs: 1000 }), upload({ notAfterMs: 2000, serial: 'cd' })];
	for (const { stream } of [old, young]) registry.attach(stream);
	registry.expireAttached(999);
	expect(old.closes).toEqual([]);
	registry.expireAttached(1000);
	expect([old.closes, young.closes]).toEqual([[CloseCode.CERTIFICATE_EXPIRED], []]);
});

test('a serial that is closed takes along all that it opened', () => {
	const registry = new SessionRegistry();
	const link = session(1);
	registry.add(link.live);
	const [same, other] = [upload(), upload({ serial: 'cd' })];
	for (const { stream } of [same, other]) registry.attach(stream);
	expect(registry.closeSerial('ab', 'revoked')).toBe(2);
	expect([link.closes, same.closes, other.closes]).toEqual([[CloseCode.REVOKED], [CloseCode.REVOKED], []]);
});

test('a node that is closed loses its uploads too, unless it only moved to a newer session', () => {
	const registry = new SessionRegistry();
	const link = session(1);
	registry.add(link.live);
	const beside = upload();
	registry.attach(beside.stream);
	registry.close('n', CloseCode.SUPERSEDED, 'moved');
	expect(beside.closes).toEqual([]);
	expect(registry.close('n', CloseCode.LOCKED, 'two holders')).toBe(true);
	expect([link.closes, beside.closes]).toEqual([[CloseCode.SUPERSEDED, CloseCode.LOCKED], [CloseCode.LOCKED]]);
	expect(registry.close('nobody', CloseCode.LOCKED, '')).toBe(false);
});

test('every live session is told of a new bundle, each time', () => {
	const registry = new SessionRegistry();
	const link = session(1);
	registry.add(link.live);
	registry.broadcastTrust(new Uint8Array([1]));
	registry.broadcastTrust(new Uint8Array([2]));
	expect(new Set(link.commands).size).toBe(2);
});
