import { readFileSync } from 'node:fs';
import { normalized } from './address.ts';

/**
 * The routers of this host, from its routing tables: a tenant's forward has no business with what manages the network.
 * Empty where a table can't be read.
 */
export function routeGateways(procRoot = '/proc'): readonly string[] {
	const v4 = rows(`${procRoot}/net/route`).map(([, , gateway = '']) => fromHex(gateway, true));
	const v6 = rows(`${procRoot}/net/ipv6_route`).map(([, , , , gateway = '']) => fromHex(gateway, false));
	const found = [...v4, ...v6].filter((address) => address !== undefined && !/^[0.:]+$/.test(address));
	return [...new Set(found as string[])];
}

function rows(path: string): readonly (readonly string[])[] {
	try {
		return readFileSync(path, 'latin1')
			.split('\n')
			.map((line) => line.trim().split(/\s+/));
	} catch {
		return [];
	}
}

function fromHex(hex: string, isLittleEndian: boolean): string | undefined {
	const bytes = [...Buffer.from(hex, 'hex')];
	if (hex.length === 8 && bytes.length === 4) return (isLittleEndian ? bytes.reverse() : bytes).join('.');
	if (hex.length !== 32 || bytes.length !== 16) return undefined;
	return normalized((hex.match(/.{4}/g) ?? []).join(':'));
}
