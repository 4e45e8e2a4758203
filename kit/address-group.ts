/**
 * Whom the limits of those who are not known yet count together: one IPv4 address, also as a dual-stack socket shows it,
 * and one IPv6 /64, which is the least that anybody is given (RFC 6177) and has more addresses than there are limits.
 */
export function addressGroup(address: string): string {
	if (!address.includes(':')) return address;
	if (address.includes('.')) return address.slice(address.lastIndexOf(':') + 1);
	const [plain = ''] = address.split('%', 1);
	const [head = '', tail] = plain.split('::', 2);
	const groupsOf = (part: string | undefined) => (part === undefined || part === '' ? [] : part.split(':'));
	const left = groupsOf(head);
	const zeros = tail === undefined ? [] : Array<string>(Math.max(0, 8 - left.length - groupsOf(tail).length)).fill('0');
	const prefix = [...left, ...zeros, ...groupsOf(tail)].slice(0, 4);
	return `${prefix.map((group) => Number.parseInt(group, 16).toString(16)).join(':')}::/64`;
}
