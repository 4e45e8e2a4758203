import { lookup } from 'node:dns/promises';
import { GpuaasError, messageOf } from '../../kit/error.ts';
import { isRange } from './address.ts';

export type Resolve = (host: string) => Promise<readonly string[]>;

export async function resolveAll(host: string): Promise<readonly string[]> {
	return (await lookup(host, { all: true, order: 'verbatim' })).map(({ address }) => address);
}

/**
 * What is kept closed, as addresses and ranges: gateways may be told by name. Throws FORWARD_UNREACHABLE for one that has no
 * address now: who can't say where it is can't keep anybody out of it.
 */
export async function closedAddresses(never: readonly string[], resolve: Resolve = resolveAll): Promise<string[]> {
	const found = never.map(async (each) => {
		if (isRange(each)) return [each];
		const addresses = await resolve(each).catch((error: unknown) => {
			throw unresolved(each, messageOf(error));
		});
		if (addresses.length === 0) throw unresolved(each, 'it has no address');
		return addresses;
	});
	return (await Promise.all(found)).flat();
}

function unresolved(name: string, why: string): GpuaasError {
	return new GpuaasError({
		code: 'UNAVAILABLE',
		reason: 'FORWARD_UNREACHABLE',
		message: `${name} is kept closed to forwards and can't be resolved on the node (${why}), so nothing is forwarded; try again once the node resolves it`,
	});
}
