import { Socket } from 'node:net';
import { networkInterfaces } from 'node:os';
import { bridge } from '../../channel/bridge.ts';
import { Mux } from '../../channel/mux.ts';
import { streamPipe } from '../../channel/pipe.ts';
import { refusalOf } from '../../channel/refusal.ts';
import { assert } from '../../kit/assert.ts';
import { keepAlive, systemClock } from '../../kit/clock.ts';
import { GpuaasError, messageOf } from '../../kit/error.ts';
import { Connector } from './connector.ts';
import { decodeForwardTask } from './forward-task.ts';
import { routeGateways } from './gateways.ts';
import { closedAddresses } from './resolve.ts';
import { ForwardJudge } from './rules.ts';

/**
 * The node's end of a port forward: started for one forward as the account that asked, in its cgroup, with the one
 * argument that says where it may lead (forward-task.ts). Every connection that the client opens goes to that one target,
 * judged anew each time. It ends when the client does.
 */
async function main(argument: string): Promise<void> {
	using _alive = keepAlive();
	const { target, rules } = decodeForwardTask(argument);
	const uid = process.getuid?.();
	assert(uid !== undefined, 'Linux has user ids');
	const judge = async () => {
		const ownAddresses = Object.values(networkInterfaces()).flatMap(
			(each) => each?.map(({ address }) => address) ?? [],
		);
		const never = [...(await closedAddresses(rules.never)), ...routeGateways()];
		return new ForwardJudge({ ...rules, never }, { uid, ownAddresses });
	};
	// One that can't keep out of what is closed doesn't start.
	await judge();
	const connector = new Connector({ clock: systemClock, judge });
	const output = new Socket({ fd: 1, readable: false, writable: true });
	const mux = new Mux({
		pipe: streamPipe(process.stdin, output),
		async accept(channel, gone) {
			try {
				const socket = await connector.connect(target, gone);
				return { start: () => void bridge(socket, channel) };
			} catch (error) {
				return refusalOf(error);
			}
		},
	});
	await mux.run();
}

main(process.argv[2] ?? '').then(
	() => process.exit(0),
	(error: unknown) => {
		process.stderr.write(`${error instanceof GpuaasError ? error.message : messageOf(error)}\n`);
		process.exit(1);
	},
);
