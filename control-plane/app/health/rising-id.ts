/**
 * `fresh`, or where it isn't above `last` the next id above that: two UUIDv7s of one millisecond are in no order, and a
 * wall clock may go back. Whoever reads on from the newest id that it has seen must miss nothing.
 */
export function risingId(fresh: string, last: string): string {
	if (fresh > last) return fresh;
	const next = (BigInt(`0x${last.replaceAll('-', '')}`) + 1n).toString(16).padStart(32, '0');
	return `${next.slice(0, 8)}-${next.slice(8, 12)}-${next.slice(12, 16)}-${next.slice(16, 20)}-${next.slice(20)}`;
}
