import { BlockList, isIP, isIPv4 } from 'node:net';

/**
 * What an address is, before anybody connects to it. Every check is on the address that will be connected to, never on the
 * text that a person gave: names, decimal and hexadecimal forms all end here. An IPv4 address inside IPv6 is that IPv4
 * address.
 */
const V6_WITH_V4 = /^(.*:)(\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})$/;

/** The one form that rules are asked with; undefined for what is no address. Zones (`%eth0`) are dropped. */
export function normalized(address: string): string | undefined {
	const bare = address.split('%')[0] ?? '';
	if (isIPv4(bare)) return bare;
	const groups = groupsOf(bare);
	if (groups === undefined) return undefined;
	if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff) {
		const [high = 0, low = 0] = groups.slice(6);
		return [high >> 8, high & 0xff, low >> 8, low & 0xff].join('.');
	}
	return groups.map((group) => group.toString(16)).join(':');
}

/** The eight groups of an IPv6 address. */
function groupsOf(text: string): number[] | undefined {
	if (isIP(text) !== 6) return undefined;
	const [, head, v4] = V6_WITH_V4.exec(text) ?? [];
	let plain = text;
	if (head !== undefined && v4 !== undefined) {
		const [a = 0, b = 0, c = 0, d = 0] = v4.split('.').map(Number);
		plain = `${head}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
	}
	const [left = '', right] = plain.split('::');
	const parse = (part: string) => (part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16)));
	const [before, after] = [parse(left), right === undefined ? [] : parse(right)];
	const zeros = new Array<number>(8 - before.length - after.length).fill(0);
	return [...before, ...zeros, ...after];
}

/**
 * Never reached, whatever local policy lists: this host's unspecified address, link-local (cloud metadata, BMC host
 * interfaces), multicast, broadcast and reserved, and IPv6 forms that carry an IPv4 address through somebody else
 * (translation, 6to4, Teredo, IPv4-compatible), which no rule on IPv4 would see.
 */
const NEVER = blockList([
	'0.0.0.0/8',
	'169.254.0.0/16',
	'224.0.0.0/4',
	'240.0.0.0/4',
	'fe80::/10',
	'fec0::/10',
	'ff00::/8',
	'64:ff9b::/96',
	'64:ff9b:1::/48',
	'2002::/16',
	'2001::/32',
	'fd00:ec2::/32',
]);
const COMPATIBLE = blockList(['::/96']);
const LOOPBACK = blockList(['127.0.0.0/8', '::1/128']);

export function isLoopback(address: string): boolean {
	return contains(LOOPBACK, address);
}

export function isNever(address: string): boolean {
	return contains(NEVER, address) || (contains(COMPATIBLE, address) && !isLoopback(address));
}

/** `address` as `normalized` gives it. */
export function contains(list: BlockList, address: string): boolean {
	return list.check(address, isIPv4(address) ? 'ipv4' : 'ipv6');
}

/** Of addresses and of ranges in CIDR form. Throws RangeError for what is neither. */
export function blockList(ranges: readonly string[]): BlockList {
	const list = new BlockList();
	for (const range of ranges) addRange(list, range);
	return list;
}

export function isRange(text: string): boolean {
	try {
		addRange(new BlockList(), text);
		return true;
	} catch {
		return false;
	}
}

function addRange(list: BlockList, range: string): void {
	const [text = '', bits, ...more] = range.split('/');
	const address = normalized(text);
	const isWhole = bits === undefined || /^\d{1,3}$/.test(bits);
	if (address === undefined || more.length > 0 || !isWhole) throw new RangeError(`${range} is no address or range`);
	const family = isIPv4(address) ? 'ipv4' : 'ipv6';
	if (bits === undefined) list.addAddress(address, family);
	else list.addSubnet(address, Number(bits), family);
}
