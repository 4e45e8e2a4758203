/**
 * The registry of channels: what may be opened, and what there is. An entry lives from `open` to `forget`; a refused
 * one leaves nothing. It owns nothing of the socket (server.ts calls it).
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../../kit/clock.ts';
import { messageOf } from '../../kit/error.ts';
import { processIdentity } from '../../kit/process-identity.ts';
import type { DeviceMechanism } from '../platform/device-rules.ts';
import { DevicesUnheld } from '../process-host/device-groups.ts';
import { execChain, type Wrappers } from '../process-host/exec-chain.ts';
import { checkLaunch, devicesOpen, devicesUnheld } from '../process-host/launch-check.ts';
import type { BoxFactory, TaskBox } from '../process-host/task-box.ts';
import type { UnixUser, Users } from '../process-host/users.ts';
import type { Waiter } from '../process-host/waiter.ts';
import { HostChannel } from './host-channel.ts';
import { endedMax, type PtyHostConfig } from './limits.ts';
import { startOnPipes } from './pipe-program.ts';
import type { Program, ProgramEvents } from './program.ts';
import type { ChannelStatus, OpenOutcome, OpenRefusal, OpenRequest } from './pty-host.ts';
import { startOnPty } from './pty-program.ts';
import { channelsName } from './reap.ts';
import { Turns } from './turns.ts';

export interface HostParts {
	readonly clock: Clock;
	/** A real path. */
	readonly directory: string;
	readonly config: PtyHostConfig;
	readonly boxes: BoxFactory;
	readonly wrappers: Wrappers;
	readonly users: Users;
	readonly waiter: Waiter;
	/** What the host before left unfinished: it ended with that host. */
	readonly lost: readonly ChannelStatus[];
	readonly log: (line: string) => void;
}

type Entry = HostChannel | ChannelStatus;

export class PtyHostRegistry {
	readonly #parts: HostParts;
	readonly #entries = new Map<string, Entry>();
	/** Forgotten before they were over. */
	readonly #unwanted = new Set<string>();
	readonly #turns: Turns;
	#opening = 0;
	#isRetired = false;

	constructor(parts: HostParts) {
		this.#parts = parts;
		this.#turns = new Turns(parts.clock);
		mkdirSync(join(parts.directory, channelsName), { recursive: true, mode: 0o700 });
		for (const status of parts.lost) this.#entries.set(status.id, status);
	}

	async open(request: OpenRequest): Promise<OpenOutcome> {
		const { id } = request;
		if (this.#entries.has(id)) return { kind: 'KNOWN' };
		const { users, config, boxes } = this.#parts;
		const turn = boxes.turn();
		if (this.#isRetired)
			return refuse(
				'SPAWN_FAILED',
				'the pty host is making room for its successor; nothing was started, open it again',
			);
		const refusal = checkShape(request);
		if (refusal !== undefined) return refusal;
		if (this.#running() + this.#opening >= config.channelsMax)
			return refuse('TOO_MANY_TERMINALS', `this node has ${config.channelsMax} terminals, its limit; end one first`);
		this.#opening += 1;
		try {
			const user = await this.#userOf(request.user);
			if (user === undefined)
				return refuse('USER_UNKNOWN', `there is no unix user ${request.user} on this node; nothing was started`);
			if (user !== users.self && !this.#parts.wrappers.userSwitch)
				return refuse(
					'USER_SWITCH_UNAVAILABLE',
					`the pty host runs as ${users.self.name} and cannot become ${request.user}; run it as root`,
				);
			return this.#entries.has(id) ? { kind: 'KNOWN' } : await this.#start(request, user, turn);
		} finally {
			this.#opening -= 1;
		}
	}

	get(id: string): HostChannel | undefined {
		const entry = this.#entries.get(id);
		return entry instanceof HostChannel ? entry : undefined;
	}

	list(): readonly ChannelStatus[] {
		return [...this.#entries.values()].map(statusOf);
	}

	end(id: string, reason: string, message: string): void {
		this.get(id)?.end(reason, message);
	}

	forget(id: string): void {
		const entry = this.#entries.get(id);
		if (entry === undefined) return;
		if (statusOf(entry).outcome === undefined) {
			this.#unwanted.add(id);
			return;
		}
		this.#entries.delete(id);
		this.#unwanted.delete(id);
		if (entry instanceof HostChannel) entry.dispose();
	}

	/** Opens nothing more if there is nothing, ended or not; false: it goes on. */
	retire(): boolean {
		this.#isRetired ||= this.#entries.size === 0 && this.#opening === 0;
		return this.#isRetired;
	}

	get devices(): DeviceMechanism {
		return this.#parts.boxes.devices;
	}

	/** Throws when they could not be set for all who are confined. */
	allowDevices(allow: readonly string[]): void {
		this.#parts.boxes.allowDevices(allow);
	}

	async shutdown(): Promise<void> {
		for (const entry of this.#entries.values()) {
			if (!(entry instanceof HostChannel)) continue;
			// Should anybody still hear of it, it is not its program that made an end.
			entry.end('TERMINAL_LOST', 'the pty host of the node was stopped, and its terminals with it');
			entry.destroy();
		}
		await this.#parts.boxes.close();
	}

	#running(): number {
		return [...this.#entries.values()].filter((entry) => entry instanceof HostChannel && !entry.hasEnded).length;
	}

	/** `users.self` when no switch is needed. */
	async #userOf(name: string): Promise<UnixUser | undefined> {
		const { users } = this.#parts;
		return name === users.self.name && users.self.uid !== 0 ? users.self : await users.find(name);
	}

	async #start(request: OpenRequest, user: UnixUser, turn: number): Promise<OpenOutcome> {
		const { clock, boxes, users, waiter, wrappers, log } = this.#parts;
		const { id, tty, limits, confine } = request;
		if (confine !== undefined && boxes.devices === 'none') return devicesOpen() as OpenOutcome;
		let box: TaskBox;
		try {
			box = boxes.create(id, limits, confine, turn);
		} catch (error) {
			if (error instanceof DevicesUnheld) return devicesUnheld(error.message) as OpenOutcome;
			return refuse('SPAWN_FAILED', `its cgroup could not be made: ${messageOf(error)}; nothing was started`);
		}
		const become = user === users.self ? undefined : user;
		const launch = execChain(wrappers, become, box.rlimits, request);
		const channel = new HostChannel({
			clock,
			id,
			user: user.name,
			tty,
			box,
			turns: this.#turns,
			onEnded: () => this.#ended(id),
		});
		// From now on the id is taken: a second order for it starts nothing.
		this.#entries.set(id, channel);
		try {
			const start = (events: ProgramEvents): Program => {
				// Ours for the length of a fork; nothing else runs in this turn.
				const umask = process.umask(0o022);
				try {
					return tty === undefined ? startOnPipes(launch, waiter, events) : startOnPty(launch, tty, become, events);
				} finally {
					process.umask(umask);
				}
			};
			const pid = await box.bear(() => channel.start(start));
			this.#record(id, pid, box.cgroup, user.name, tty !== undefined);
			return { kind: 'OPENED', pid };
		} catch (error) {
			channel.destroy();
			this.#entries.delete(id);
			this.#unwanted.delete(id);
			log(`open: ${messageOf(error)}`);
			const isPtyGone = /forkpty|openpty/.test(messageOf(error));
			return isPtyGone
				? refuse('TOO_MANY_TERMINALS', 'this node has no pseudo-terminal left; end a terminal first')
				: refuse('SPAWN_FAILED', `the program could not be started: ${messageOf(error)}`);
		}
	}

	/** So that whoever comes after this host knows what to end. */
	#record(id: string, pid: number, cgroup: string | undefined, user: string, tty: boolean): void {
		const identity = processIdentity(pid);
		writeFileSync(join(this.#folder(), id), JSON.stringify({ ...identity, pid, cgroup, user, tty }), { mode: 0o600 });
	}

	#ended(id: string): void {
		rmSync(join(this.#folder(), id), { force: true });
		if (this.#unwanted.has(id)) this.forget(id);
		const ended = [...this.#entries.values()].map(statusOf).filter(({ outcome }) => outcome !== undefined);
		for (const { id: oldest } of ended.slice(0, Math.max(0, ended.length - endedMax))) this.forget(oldest);
	}

	#folder(): string {
		return join(this.#parts.directory, channelsName);
	}
}

function statusOf(entry: Entry): ChannelStatus {
	return entry instanceof HostChannel ? entry.status : entry;
}

function refuse(reason: OpenRefusal, message: string): OpenOutcome {
	return { kind: 'REFUSED', reason, message };
}

/** The same rules as for a task's launch; what a channel doesn't have is filled in. */
function checkShape({ id, argv, env, cwd, user, limits, tty, confine }: OpenRequest): OpenOutcome | undefined {
	if (
		tty !== undefined &&
		![tty.columns, tty.rows].every((size) => Number.isInteger(size) && size >= 1 && size <= 1000)
	)
		return refuse('INVALID_REQUEST', 'a window has 1 to 1000 columns and rows');
	const fault = checkLaunch({
		taskId: id,
		attempt: 1,
		argv,
		env,
		cwd,
		user,
		limits,
		...(confine === undefined ? {} : { confine }),
		timeoutMs: 1,
		graceMs: 0,
		outputCapBytes: 4096,
	});
	return fault === undefined ? undefined : refuse(fault.reason as OpenRefusal, fault.message);
}
