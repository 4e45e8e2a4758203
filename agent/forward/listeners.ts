import { closeSync, openSync, readSync } from 'node:fs';
import { isIPv4 } from 'node:net';
import { normalized } from './address.ts';

/**
 * Who listens on this host, from /proc/net/tcp and tcp6 (proc(5)): the kernel's own word on which account made a socket,
 * which no process can forge. The kernel lists listening sockets first, so reading stops at the first other one, however
 * many connections there are.
 */
export interface Listener {
	/** As `normalized` gives it. */
	readonly address: string;
	readonly port: number;
	readonly uid: number;
}

const LISTEN = '0A';
const CHUNK_BYTES = 64 * 1024;
/** A table that is longer than this isn't read to its end; sockets behind count as nobody's, so refused. */
const TABLE_BYTES_MAX = 16 * 1024 * 1024;

export function readListeners(procRoot = '/proc'): readonly Listener[] {
	return ['tcp', 'tcp6'].flatMap((table) => parseTable(readHead(`${procRoot}/net/${table}`)));
}

/** Listening sockets up to the first row that is of another kind. */
export function parseTable(text: string): readonly Listener[] {
	const found: Listener[] = [];
	for (const line of text.split('\n').slice(1)) {
		const [, local = '', , state, , , , uid = ''] = line.trim().split(/\s+/);
		if (state !== LISTEN) break;
		const [hex = '', port = ''] = local.split(':');
		const address = addressOf(hex);
		if (address !== undefined && /^\d+$/.test(uid))
			found.push({ address, port: Number.parseInt(port, 16), uid: Number(uid) });
	}
	return found;
}

/**
 * Those that a connection to `address` and `port` may reach: bound to it or to every address. A dual-stack socket on `::`
 * takes IPv4 too.
 */
export function listenersFor(listeners: readonly Listener[], address: string, port: number): readonly Listener[] {
	const wildcards = isIPv4(address) ? ['0.0.0.0', UNSPECIFIED_V6] : [UNSPECIFIED_V6];
	return listeners.filter(
		(listener) => listener.port === port && (listener.address === address || wildcards.includes(listener.address)),
	);
}

const UNSPECIFIED_V6 = normalized('::') ?? '';

/** Words of 32 bits in the byte order of the machine: little-endian on every platform that we run on. */
function addressOf(hex: string): string | undefined {
	if (!/^([0-9A-F]{8}|[0-9A-F]{32})$/.test(hex)) return undefined;
	const words = hex.match(/.{8}/g) ?? [];
	const bytes = words.flatMap((word) => [...Buffer.from(word, 'hex')].reverse());
	if (bytes.length === 4) return bytes.join('.');
	const groups = Array.from({ length: 8 }, (_, index) => ((bytes[index * 2] ?? 0) << 8) | (bytes[index * 2 + 1] ?? 0));
	return normalized(groups.map((group) => group.toString(16)).join(':'));
}

/** Up to and with the first row that isn't a listener; empty where there is no such table (no IPv6). */
function readHead(path: string): string {
	let file: number;
	try {
		file = openSync(path, 'r');
	} catch {
		return '';
	}
	try {
		let text = '';
		const buffer = Buffer.alloc(CHUNK_BYTES);
		while (text.length < TABLE_BYTES_MAX) {
			const bytes = readSync(file, buffer);
			text += buffer.toString('latin1', 0, bytes);
			const rows = text.slice(text.lastIndexOf('\n', text.length - 1 - 2 * 160) + 1);
			if (bytes === 0 || / (?!0A )[0-9A-F]{2} [0-9A-F]{8}:[0-9A-F]{8} /.test(rows)) break;
		}
		return text;
	} finally {
		closeSync(file);
	}
}
