import { isIP } from 'node:net';
import { blockList, contains, isRange, normalized } from './address.ts';

/**
 * What the host's owner lists in `forward.allow`: `host:port`. The host is an address, a range in CIDR form, a name, or
 * `*.suffix`; IPv6 stands in brackets. The port is a number, a range `8000-8999`, or `*`.
 */
export interface Pattern {
	/** By a name, whose answer is somebody else's to give. */
	readonly byName: boolean;
	matches(host: string, address: string, port: number): boolean;
}

const PARTS = /^(?:\[([0-9A-Fa-f:.]+(?:\/\d{1,3})?)\]|([^:[\]]+)):(\*|\d{1,5}(?:-\d{1,5})?)$/;
const NAME = /^(\*\.)?[a-z0-9]([a-z0-9-]{0,62}\.?)*$/i;

/** Undefined for what is no pattern. */
export function parsePattern(text: string): Pattern | undefined {
	const [, bracketed, bare, ports] = PARTS.exec(text) ?? [];
	const host = bracketed ?? bare;
	const range = ports === undefined ? undefined : portsOf(ports);
	if (host === undefined || range === undefined) return undefined;
	const isPort = (port: number) => port >= range.from && port <= range.to;
	if (isRange(host)) {
		const list = blockList([host]);
		return { byName: false, matches: (_, address, port) => isPort(port) && contains(list, address) };
	}
	if (bracketed !== undefined || !NAME.test(host) || endsInNumber(host)) return undefined;
	const wanted = nameOf(host);
	const isName = wanted.startsWith('*.')
		? (name: string) => name.endsWith(wanted.slice(1)) && name.length > wanted.length - 1
		: (name: string) => name === wanted;
	return {
		byName: true,
		matches: (name, _, port) => isPort(port) && normalized(name) === undefined && isName(nameOf(name)),
	};
}

function portsOf(text: string): { readonly from: number; readonly to: number } | undefined {
	if (text === '*') return { from: 1, to: 65_535 };
	const [from = 0, to = from] = text.split('-').map(Number);
	return from >= 1 && to <= 65_535 && from <= to ? { from, to } : undefined;
}

function nameOf(host: string): string {
	return host.toLowerCase().replace(/\.$/, '');
}

/** `2130706433`, `0x7f.1`, `127.1`: resolvers take them for IPv4 addresses (WHATWG URL, "ends in a number"). */
export function endsInNumber(host: string): boolean {
	const last = nameOf(host).split('.').at(-1) ?? '';
	return isIP(host) === 0 && /^(\d+|0x[0-9a-f]*)$/.test(last);
}

/** Whether a resolver may be asked about it. */
export function isHostName(host: string): boolean {
	return host.length <= 253 && NAME.test(host) && !host.startsWith('*') && !endsInNumber(host);
}
