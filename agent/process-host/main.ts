/**
 * The process host: a small process of its own session that owns tasks' processes, so that they outlive the agent. It
 * imports Node's builtins and small files only: fork copies page tables, so launches get slower with every megabyte
 * (measured: 676 launches/s at 78 MB, 103/s at 229 MB). Started with the state directory as its one argument, by
 * `startProcessHost` (detached) or by its own systemd unit; never inside the agent's cgroup where systemd runs.
 *
 * Invariants: one host per directory (lock.ts); nothing is announced before it is durable (task-run.ts); when the host
 * dies its tasks die (setpriv --pdeathsig, then reap.ts); what the directory says is true after any crash (state.ts).
 * SIGTERM stops all tasks, records their results, and ends the host.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { chooseBoxes } from './boxes.ts';
import { readHostConfig } from './directory.ts';
import { findWrappers } from './exec-chain.ts';
import { FifoPool, makeFifoFolder, removeFifoFolder } from './fifo.ts';
import { Host } from './host.ts';
import { runHostProgram } from './host-main.ts';
import { openJournalFile, syncDirectory } from './journal.ts';
import { defaultHostConfig } from './limits.ts';
import { recover } from './recover.ts';
import { serve } from './server.ts';
import { journalName, spoolName } from './state.ts';
import { Users } from './users.ts';
import { openWaiter } from './waiter.ts';

runHostProgram(async ({ clock, directory, identity, instanceId, release, cgroupId, log }) => {
	const config = readHostConfig(directory, defaultHostConfig);
	mkdirSync(join(directory, spoolName), { recursive: true, mode: 0o700 });
	const recovered = await recover(directory, clock, identity.bootId, log);
	const users = new Users(clock);
	const host = new Host({
		clock,
		directory,
		config,
		bootId: identity.bootId,
		boxes: await chooseBoxes({ clock, mode: config.cgroup, id: cgroupId, log }),
		wrappers: findWrappers(users.self),
		users,
		waiter: await openWaiter(clock, log),
		fifos: new FifoPool(makeFifoFolder(directory, identity)),
		journalFile: openJournalFile(join(directory, journalName)),
		recovered,
		log,
	});
	syncDirectory(directory);
	return {
		serve: (socketPath, onShutdown) => serve(socketPath, { host, instanceId, release, onShutdown, log }),
		shutdown: (graceMs) => host.shutdown(graceMs).finally(() => removeFifoFolder(directory)),
		beat: () => host.sample(),
		describe() {
			const { containment, limits, devices } = host.capabilities;
			return `${containment} containment, ${limits} limits, devices held by ${devices}`;
		},
	};
});
