import net, { type NetConnectOpts, type Socket } from 'node:net';

/**
 * Connections of this process leave from a loopback address of their own each, as those of real hosts do: else a whole
 * fleet would share the limits of one address and its ports. For processes of benches only: it patches `net.connect`,
 * which grpc-js calls. Processes of different index (0 to 3) share no address.
 */
export function useManySourceAddresses(index: number): void {
	const connect = net.connect as (options: NetConnectOpts, onConnect?: () => void) => Socket;
	let count = 0;
	const patched = (options: NetConnectOpts, onConnect?: () => void): Socket => {
		count += 1;
		const localAddress = `127.${1 + index * 63 + ((count >> 15) % 63)}.${(count >> 7) & 255}.${1 + (count & 127)}`;
		return connect({ ...options, localAddress } as NetConnectOpts, onConnect);
	};
	Object.assign(net, { connect: patched });
}
