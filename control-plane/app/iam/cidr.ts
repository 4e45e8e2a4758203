import { BlockList, isIP } from 'node:net';
import { GpuaasError } from '../../../kit/error.ts';

/** Networks in CIDR notation. An IPv4 client behind a dual-stack socket (::ffff:10.0.0.1) counts as IPv4: BlockList sees to it. */
const CIDR = /^([0-9a-fA-F:.]{2,45})\/(\d{1,3})$/;
const lists = new Map<string, BlockList>();
const LISTS_MAX = 1000;

/** Throws CIDR_INVALID. */
export function assertCidrs(cidrs: readonly string[]): void {
	for (const cidr of cidrs) {
		if (parse(cidr) !== undefined) continue;
		throw new GpuaasError({
			code: 'INVALID_ARGUMENT',
			reason: 'CIDR_INVALID',
			message: `${JSON.stringify(cidr.slice(0, 64))} is not a network such as 10.0.0.0/8 or 2001:db8::/32; nothing was made`,
		});
	}
}

/** Whether the address is in one of the networks. False for what is no address: fail closed. */
export function isWithin(cidrs: readonly string[], address: string): boolean {
	const family = isIP(address);
	if (family === 0) return false;
	return listOf(cidrs).check(address, family === 4 ? 'ipv4' : 'ipv6');
}

/** Whether all of the network is in one of the others. */
export function isCovered(by: readonly string[], cidr: string): boolean {
	const inner = parse(cidr);
	if (inner === undefined) return false;
	return by.some((outer) => {
		const network = parse(outer);
		if (network === undefined || network.family !== inner.family || network.prefix > inner.prefix) return false;
		return listOf([outer]).check(inner.address, inner.family);
	});
}

function listOf(cidrs: readonly string[]): BlockList {
	const key = cidrs.join();
	let list = lists.get(key);
	if (list !== undefined) return list;
	list = new BlockList();
	for (const cidr of cidrs) {
		const network = parse(cidr);
		if (network !== undefined) list.addSubnet(network.address, network.prefix, network.family);
	}
	if (lists.size >= LISTS_MAX) lists.clear();
	lists.set(key, list);
	return list;
}

function parse(cidr: string) {
	const [, address = '', digits] = CIDR.exec(cidr) ?? [];
	const version = isIP(address);
	const prefix = Number(digits);
	if (version === 0 || prefix > (version === 4 ? 32 : 128)) return undefined;
	return { address, prefix, family: version === 4 ? ('ipv4' as const) : ('ipv6' as const) };
}
