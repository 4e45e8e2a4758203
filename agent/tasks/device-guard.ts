import { type Clock, every, type Timer } from '../../kit/clock.ts';
import { messageOf } from '../../kit/error.ts';
import type { Logger } from '../../kit/log.ts';
import { allowedDevices, type DeviceWishes } from '../platform/device-files.ts';
import type { Confinement, DeviceMechanism } from '../platform/device-rules.ts';
import { type LeakyAccount, leakyAccounts, managerAdvice } from '../platform/user-managers.ts';
import type { Policy } from './policy.ts';

/**
 * Which devices a program may open, by this host's own policy (`[devices]`): decided for each start, and told to the
 * hosts of processes and terminals again when devices come or go, so that it also binds what runs. An assignment is a
 * whole node, so all have the same devices; each has a group of its own all the same. Composed by run.ts, asked by the
 * runner and the terminals.
 */
export type DeviceVerdict =
	/** `confine` undefined: whatever its account may open. */
	| { readonly kind: 'ok'; readonly confine: Confinement | undefined }
	| { readonly kind: 'refused'; readonly reason: 'DEVICE_ISOLATION_UNAVAILABLE'; readonly message: string };

/** Either host. */
interface DeviceHolder {
	allowDevices(allow: readonly string[]): Promise<void>;
}

export interface DeviceGuardParts {
	readonly clock: Clock;
	readonly log: Logger;
	readonly policy: Pick<Policy, 'devices' | 'run' | 'terminal'>;
	/** Where that was read from, for whoever has to change it. */
	readonly policyPath?: string;
	/** Reads this host's device files. */
	readonly read?: (wishes: DeviceWishes) => readonly string[];
	/** Which of these accounts can have programs started outside of our cgroups. */
	readonly leaky?: (names: Iterable<string>) => readonly LeakyAccount[];
}

/** What programs of no assignment are held to when the policy says that they are. */
const PLATFORM_GROUP = 'platform';
/** Some 0.1 ms each, for starts in a row. */
const FRESH_MS = 1000;
/** A GPU or a MIG instance that appears is there for those who run, one that is gone is closed to them. */
const PERIOD_MS = 10_000;

interface Holder {
	readonly mechanism: DeviceMechanism;
	/** What it has, or is being told; undefined: nobody knows. */
	told: string | undefined;
}

const FREE: DeviceVerdict = { kind: 'ok', confine: undefined };

export class DeviceGuard implements Disposable {
	readonly #parts: DeviceGuardParts;
	readonly #read: NonNullable<DeviceGuardParts['read']>;
	readonly #leaky: NonNullable<DeviceGuardParts['leaky']>;
	/** Accounts that tenants may be. Root isn't held by anything that this could do. */
	readonly #accounts: ReadonlySet<string>;
	readonly #holders = new Map<DeviceHolder, Holder>();
	readonly #known = Promise.withResolvers<void>();
	readonly #timer: Timer;
	#allow: readonly string[] = [];
	#readAtMs = Number.NEGATIVE_INFINITY;

	constructor(parts: DeviceGuardParts) {
		this.#parts = parts;
		this.#read = parts.read ?? allowedDevices;
		this.#leaky = parts.leaky ?? leakyAccounts;
		const { run, terminal } = parts.policy;
		this.#accounts = new Set([...run.users, ...terminal.users].filter((name) => name !== 'root'));
		const report = (error: unknown) => parts.log.error('the devices of this host could not be read', { error });
		this.#timer = every(parts.clock, PERIOD_MS, () => this.#refresh(), report);
	}

	/**
	 * `assignmentId` empty: of no assignment. `user`: the account that it would run as. `mechanism`: of the host that would
	 * start it; undefined in older ones. `holds`: what is in that host, for who must end it.
	 */
	judge(
		assignmentId: string,
		user: string,
		mechanism: DeviceMechanism | undefined,
		holds = 'not known',
	): DeviceVerdict {
		const { isolation, platform } = this.#policy;
		const canHold = mechanism !== undefined && mechanism !== 'none';
		const isTenants = assignmentId !== '' || platform;
		// Under no assignment, and as an account that tenants share with it: they could take over what it has opened. Where
		// nothing can be held there is no tenant beside it, or the policy has said that it doesn't matter.
		const isBeside = !isTenants && canHold && this.#accounts.has(user);
		if (isolation === 'off' || (!isTenants && !isBeside)) return FREE;
		if (!canHold) {
			if (isolation === 'preferred') return FREE;
			return this.#refused(
				mechanism === undefined
					? `the host that would start it is of an earlier release and holds no devices; once nothing is left in it (now: ${holds}) one of this release takes its place`
					: 'this host can hold no program to its devices, which needs root, and eBPF on cgroup v2 (Linux 5.6) or the devices controller of cgroup v1',
			);
		}
		try {
			const isStrict = isolation === 'required' && assignmentId !== '' && user !== 'root';
			const [leak] = isStrict ? this.#leaky([user]) : [];
			if (leak !== undefined) return this.#refused(managerAdvice(leak));
			const group = assignmentId === '' ? PLATFORM_GROUP : assignmentId;
			return { kind: 'ok', confine: { group, allow: this.#current() } };
		} catch (error) {
			const message = `the devices that the policy allows can't be told (${messageOf(error)}); nothing was started`;
			return { kind: 'refused', reason: 'DEVICE_ISOLATION_UNAVAILABLE', message };
		}
	}

	/** Accounts of tenants whose programs can leave what holds them: told by `agent status`, refused where it is required. */
	leaks(): readonly LeakyAccount[] {
		if (this.#policy.isolation === 'off') return [];
		try {
			return this.#leaky(this.#accounts);
		} catch (error) {
			this.#parts.log.warn('the accounts of tenants could not be looked at', { error: messageOf(error) });
			return [];
		}
	}

	get isLeaky(): boolean {
		return this.leaks().length > 0;
	}

	/** A host was reached: what runs there is held to what is allowed now, not when it was started. */
	add(holder: DeviceHolder, mechanism: DeviceMechanism = 'none'): void {
		const entry: Holder = { mechanism, told: undefined };
		this.#holders.set(holder, entry);
		this.#known.resolve();
		if (mechanism === 'none' || this.#policy.isolation === 'off') return;
		try {
			this.#tell(holder, entry, this.#current());
		} catch (error) {
			// Starts are refused with the same.
			this.#parts.log.error('the devices of this host can not be told', { error: messageOf(error) });
		}
	}

	remove(holder: DeviceHolder): void {
		this.#holders.delete(holder);
	}

	/** The weakest of the hosts that were reached; undefined before the first. */
	get mechanism(): DeviceMechanism | undefined {
		const mechanisms = Array.from(this.#holders.values(), ({ mechanism }) => mechanism);
		return mechanisms.includes('none') ? 'none' : mechanisms[0];
	}

	get isolation(): Policy['devices']['isolation'] {
		return this.#policy.isolation;
	}

	/** Resolves once a host said what it has. */
	get known(): Promise<void> {
		return this.#known.promise;
	}

	[Symbol.dispose](): void {
		this.#timer.cancel();
	}

	#current(): readonly string[] {
		const nowMs = this.#parts.clock.monotonic();
		if (nowMs - this.#readAtMs < FRESH_MS) return this.#allow;
		this.#allow = this.#read(this.#policy);
		this.#readAtMs = nowMs;
		return this.#allow;
	}

	#refresh(): void {
		if (this.#policy.isolation === 'off') return;
		const holders = [...this.#holders].filter(([, { mechanism }]) => mechanism !== 'none');
		if (holders.length === 0) return;
		const allow = this.#current();
		const late = holders.filter(([, { told }]) => told !== allow.join());
		if (late.length === 0) return;
		this.#parts.log.info('the devices of this host are told to its hosts', { devices: allow.length });
		for (const [holder, entry] of late) this.#tell(holder, entry, allow);
	}

	get #policy(): Policy['devices'] {
		return this.#parts.policy.devices;
	}

	#refused(why: string): DeviceVerdict {
		const { policyPath = 'agent.policy.toml' } = this.#parts;
		const message = `${why}; nothing was started. Its policy requires that tenants are held: to start them all the same, put isolation = "preferred" under [devices] in ${policyPath} and restart the agent`;
		return { kind: 'refused', reason: 'DEVICE_ISOLATION_UNAVAILABLE', message };
	}

	#tell(holder: DeviceHolder, entry: Holder, allow: readonly string[]): void {
		const told = allow.join();
		entry.told = told;
		holder.allowDevices(allow).catch((error: unknown) => {
			// Told again with the next look, if it is still there; unless it was told of something newer meanwhile.
			if (entry.told === told) entry.told = undefined;
			this.#parts.log.warn('the devices of what runs could not be set anew', { error: messageOf(error) });
		});
	}
}
