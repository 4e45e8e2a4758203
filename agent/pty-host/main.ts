/**
 * The pty host: a process of its own session that owns what people sit in front of, so that shells outlive the agent.
 * Started like the process host, with its state directory as the one argument; one host a directory (lock.ts). When it
 * dies the kernel hangs up its terminals, and the next host ends what ignored that (reap.ts). SIGTERM ends all of it.
 */
import { chooseBoxes } from '../process-host/boxes.ts';
import { readHostConfig } from '../process-host/directory.ts';
import { findWrappers } from '../process-host/exec-chain.ts';
import { runHostProgram } from '../process-host/host-main.ts';
import { Users } from '../process-host/users.ts';
import { openWaiter } from '../process-host/waiter.ts';
import { PtyHostRegistry } from './host.ts';
import { defaultPtyHostConfig } from './limits.ts';
import { reapChannels } from './reap.ts';
import { serve } from './server.ts';

runHostProgram(async ({ clock, directory, instanceId, release, cgroupId, log }) => {
	const config = readHostConfig(directory, defaultPtyHostConfig);
	const lost = reapChannels(directory);
	const users = new Users(clock);
	const boxes = await chooseBoxes({ clock, mode: config.cgroup, id: cgroupId, log });
	const host = new PtyHostRegistry({
		clock,
		directory,
		config,
		boxes,
		wrappers: findWrappers(users.self),
		users,
		waiter: await openWaiter(clock, log),
		lost,
		log,
	});
	return {
		serve: (socketPath, onShutdown) =>
			serve(socketPath, { host, instanceId, release, onShutdown: () => onShutdown(0), log }),
		shutdown: () => host.shutdown(),
		describe: () =>
			`${boxes.containment} containment, ${boxes.limits} limits, devices held by ${boxes.devices}, ${lost.length} lost`,
	};
});
