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
import { createHash } from 'node:crypto';
import { appendFileSync, chmodSync, mkdirSync, openSync, rmSync, statSync, watch, writeSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { join } from 'node:path';
import { every, systemClock } from '../../kit/clock.ts';
import { hex, systemRng } from '../../kit/ids.ts';
import { processIdentity } from '../../kit/process-identity.ts';
import { chooseBoxes } from './cgroup.ts';
import { preparePrivateDirectory, readHostConfig } from './directory.ts';
import { findWrappers } from './exec-chain.ts';
import { FifoPool } from './fifo.ts';
import { Host } from './host.ts';
import { openJournalFile, syncDirectory } from './journal.ts';
import { sampleMs } from './limits.ts';
import { acquireHostLock } from './lock.ts';
import { uptimeTicks } from './proc.ts';
import { recover } from './recover.ts';
import { serve } from './server.ts';
import { aliveName, exitHeld, fifoName, journalName, logName, socketName, spoolName } from './state.ts';
import { Users } from './users.ts';

const LOG_BYTES_MAX = 256 << 10;
const SHUTDOWN_GRACE_MS = 10_000;

const clock = systemClock;
const directory = preparePrivateDirectory(process.argv[2] ?? '');
const logPath = join(directory, logName);

function log(line: string): void {
	try {
		if ((statSync(logPath, { throwIfNoEntry: false })?.size ?? 0) > LOG_BYTES_MAX) rmSync(logPath);
		appendFileSync(logPath, `${new Date(clock.now()).toISOString()} ${line}\n`, { mode: 0o600 });
	} catch {
		// The log is a courtesy; the records are what counts.
	}
}

/** The sign of life that `reap` goes by; not synced, because it only has to outlive this process. */
function startSignsOfLife(bootId: string, host: Host): void {
	const fd = openSync(join(directory, aliveName), 'w', 0o600);
	const beat = () => {
		writeSync(fd, `${bootId} ${String(uptimeTicks()).padEnd(20)}`, 0);
		host.sample();
	};
	beat();
	every(clock, sampleMs, beat, (error) => log(`sample: ${error}`));
}

async function main(): Promise<void> {
	const identity = processIdentity(process.pid);
	if (identity === undefined) throw new Error('/proc is not mounted');
	const instanceId = hex(systemRng.bytes(16));
	const outcome = acquireHostLock(directory, { ...identity, instanceId });
	if (outcome.kind === 'HELD') {
		log(`not started: process ${outcome.by?.pid} already owns ${directory}`);
		process.exit(exitHeld);
	}
	// Kit timers don't keep a process alive; until the socket listens, this does.
	const awake = watch(directory);
	const config = readHostConfig(directory);
	mkdirSync(join(directory, spoolName), { recursive: true, mode: 0o700 });
	const recovered = await recover(directory, clock, identity.bootId, log);
	const users = new Users(clock);
	const host = new Host({
		clock,
		directory,
		config,
		bootId: identity.bootId,
		boxes: chooseBoxes(config.cgroup, createHash('sha256').update(directory).digest('hex').slice(0, 12)),
		wrappers: findWrappers(users.self),
		users,
		fifos: new FifoPool(join(directory, fifoName)),
		journalFile: openJournalFile(join(directory, journalName)),
		recovered,
		log,
	});
	syncDirectory(directory);
	startSignsOfLife(identity.bootId, host);

	let isEnding = false;
	const end = (graceMs: number) => {
		if (isEnding) return;
		isEnding = true;
		host.shutdown(graceMs).finally(() => process.exit(0));
	};
	process.on('SIGTERM', () => end(SHUTDOWN_GRACE_MS));
	process.on('SIGINT', () => end(SHUTDOWN_GRACE_MS));
	process.on('SIGHUP', () => undefined);
	const socketPath = join(directory, socketName);
	rmSync(socketPath, { force: true });
	process.umask(0o077);
	await serve(socketPath, { host, instanceId, onShutdown: end, log });
	chmodSync(socketPath, 0o600);
	awake.close();
	flushCompileCache();
	log(`ready: pid ${process.pid}, ${host.capabilities.containment} containment, ${host.capabilities.limits} limits`);
}

function fail(error: unknown): void {
	log(`failed: ${error instanceof Error ? error.stack : error}`);
	process.exit(1);
}

// A host that doesn't know its own state must not go on; the kernel and `reap` end its tasks.
process.on('uncaughtException', fail);
main().catch(fail);
