import type { IncomingHttpHeaders } from 'node:http';
import { isWithin } from '../app/iam/cidr.ts';

/** A proxy chain is short; a longer header is somebody's invention. */
const HOPS_MAX = 16;

/**
 * Who called: the nearest address that is not a proxy of ours, from the right, for each proxy appends the address that it
 * saw (RFC 7239's order, in X-Forwarded-For). Without trusted proxies, or when the connection is not one of theirs, the
 * header is what anybody may write and isn't looked at. What can't be read leaves the last address that is known.
 */
export function clientAddress(
	socketAddress: string,
	headers: IncomingHttpHeaders,
	trustedProxies: readonly string[],
): string {
	if (trustedProxies.length === 0 || !isWithin(trustedProxies, socketAddress)) return socketAddress;
	const sent = headers['x-forwarded-for'];
	const hops = (Array.isArray(sent) ? sent.join(',') : (sent ?? '')).split(',').slice(-HOPS_MAX);
	let known = socketAddress;
	for (const hop of hops.reverse()) {
		const address = hop.trim();
		if (!isWithin(EVERYWHERE, address)) return known;
		known = address;
		if (!isWithin(trustedProxies, address)) return address;
	}
	return known;
}

const EVERYWHERE: readonly string[] = ['0.0.0.0/0', '::/0'];
