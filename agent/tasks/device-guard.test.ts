import { expect, test } from 'vitest';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import type { LeakyAccount } from '../platform/user-managers.ts';
import { DeviceGuard } from './device-guard.ts';
import { demoPolicy, parsePolicy } from './policy.ts';

const policyOf = (lines: string) =>
	parsePolicy(`[run]\nusers = ["bob"]\n[terminal]\nusers = ["ann", "root"]\n[devices]\n${lines}\n`, 'policy.toml');

class World {
	readonly clock = new VirtualClock(0);
	devices: readonly string[] = ['c 1:3 rw'];
	fault: Error | undefined;
	readonly guard: DeviceGuard;
	readonly told: string[] = [];
	/** Holders that fail. */
	readonly failing = new Set<string>();
	leaky: readonly LeakyAccount[] = [];

	constructor(lines = '') {
		const read = () => {
			if (this.fault !== undefined) throw this.fault;
			return this.devices;
		};
		const leaky = (names: Iterable<string>) => this.leaky.filter(({ name }) => [...names].includes(name));
		this.guard = new DeviceGuard({ clock: this.clock, log: silentLogger, policy: policyOf(lines), read, leaky });
	}

	holder(name: string) {
		return {
			allowDevices: async (allow: readonly string[]) => {
				this.told.push(`${name}: ${allow.join()}`);
				if (this.failing.has(name)) throw new Error('a group is stuck');
			},
		};
	}
}

const FREE = { kind: 'ok', confine: undefined };
const HELD = { kind: 'ok', confine: { group: 'a1', allow: ['c 1:3 rw'] } };
const REFUSED = { kind: 'refused', reason: 'DEVICE_ISOLATION_UNAVAILABLE' };

test.each([
	['', 'bpf', HELD],
	['', 'cgroup1', HELD],
	['', 'none', REFUSED],
	// A host of an older agent, which would take the list and not know it.
	['', undefined, REFUSED],
	['isolation = "preferred"', 'bpf', HELD],
	['isolation = "preferred"', 'none', FREE],
	['isolation = "off"', 'bpf', FREE],
	['isolation = "off"', 'none', FREE],
] as const)('under an assignment: [devices] %s on a host with %s', (lines, mechanism, verdict) => {
	using guard = new World(lines).guard;
	expect(guard.judge('a1', 'bob', mechanism)).toMatchObject(verdict);
});

test('a host of an earlier release is told from a node that can not, and what must end is named', () => {
	using guard = new World().guard;
	const old = guard.judge('a1', 'bob', undefined, '3 tasks');
	expect(old).toMatchObject({ ...REFUSED, message: expect.stringMatching(/earlier release.*\(now: 3 tasks\)/) });
	expect(old).not.toMatchObject({ message: expect.stringContaining('needs root') });
	expect(guard.judge('a1', 'bob', 'none', '3 tasks')).toMatchObject({ message: expect.stringContaining('needs root') });
});

test('what runs for the platform is held only where the policy says so', () => {
	expect(new World().guard.judge('', 'carol', 'bpf')).toEqual(FREE);
	expect(new World().guard.judge('', 'carol', 'none')).toEqual(FREE);
	expect(new World('platform = true').guard.judge('', 'carol', 'bpf')).toMatchObject({
		confine: { group: 'platform' },
	});
	expect(new World('platform = true').guard.judge('', 'carol', 'none')).toMatchObject(REFUSED);
});

test('but as an account that tenants may be it is held beside them whatever the policy says of the platform', () => {
	for (const user of ['bob', 'ann']) {
		expect(new World().guard.judge('', user, 'bpf')).toMatchObject({ confine: { group: 'platform' } });
		// No tenant can be there.
		expect(new World().guard.judge('', user, 'none')).toEqual(FREE);
		expect(new World('isolation = "off"').guard.judge('', user, 'bpf')).toEqual(FREE);
	}
	expect(new World().guard.judge('', 'root', 'bpf')).toEqual(FREE);
});

test('who can leave by a user manager is refused where it must be held, and named where it is only preferred', () => {
	const leaky = [{ name: 'bob', uid: 1234, manager: 'possible' }] as const;
	const strict = Object.assign(new World(), { leaky });
	expect(strict.guard.judge('a1', 'bob', 'bpf')).toMatchObject({
		...REFUSED,
		message: expect.stringMatching(/mask --now user@1234\.service.*isolation = "preferred" under \[devices\] in \S+/),
	});
	expect(strict.guard.judge('a1', 'ann', 'bpf')).toMatchObject(HELD);
	// The operator's own command doesn't want to leave.
	expect(strict.guard.judge('', 'bob', 'bpf')).toMatchObject({ confine: { group: 'platform' } });
	const mild = Object.assign(new World('isolation = "preferred"'), { leaky });
	expect(mild.guard.judge('a1', 'bob', 'bpf')).toMatchObject(HELD);
	expect(mild.guard.leaks()).toEqual(leaky);
	expect(Object.assign(new World('isolation = "off"'), { leaky }).guard.leaks()).toEqual([]);
});

test('a host that could not set the devices is told again, and the other one is not', async () => {
	const world = new World();
	world.guard.add(world.holder('tasks'), 'bpf');
	world.guard.add(world.holder('terminals'), 'bpf');
	world.told.splice(0);
	world.devices = ['c 1:3 rw', 'c 195:0 rw'];
	world.failing.add('terminals');
	world.clock.advance(10_000);
	await Promise.resolve();
	await Promise.resolve();
	expect(world.told.splice(0)).toHaveLength(2);
	world.failing.clear();
	world.clock.advance(10_000);
	expect(world.told.splice(0)).toEqual(['terminals: c 1:3 rw,c 195:0 rw']);
	world.clock.advance(20_000);
	expect(world.told).toEqual([]);
});

test('hosts are told when they are reached and when devices come or go, also when a start saw it first', () => {
	const world = new World();
	const [tasks, terminals] = [world.holder('tasks'), world.holder('terminals')];
	world.guard.add(tasks, 'bpf');
	world.guard.add(terminals, 'bpf');
	world.guard.add(world.holder('old'), undefined);
	expect(world.told.splice(0)).toEqual(['tasks: c 1:3 rw', 'terminals: c 1:3 rw']);
	world.clock.advance(20_000);
	expect(world.told).toEqual([]);
	world.devices = ['c 1:3 rw', 'c 195:0 rw'];
	world.clock.advance(2000);
	expect(world.guard.judge('a1', 'bob', 'bpf')).toMatchObject({ confine: { allow: world.devices } });
	world.clock.advance(10_000);
	expect(world.told.splice(0)).toEqual(['tasks: c 1:3 rw,c 195:0 rw', 'terminals: c 1:3 rw,c 195:0 rw']);
	world.guard.remove(tasks);
	world.devices = [];
	world.clock.advance(11_000);
	expect(world.told).toEqual(['terminals: ']);
});

test('devices that can not be told let nothing start, and keep no host from being reached', () => {
	const world = new World();
	world.fault = new Error('600 devices are allowed');
	world.guard.add(world.holder('tasks'), 'bpf');
	expect(world.guard.judge('a1', 'bob', 'bpf')).toMatchObject({
		...REFUSED,
		message: expect.stringContaining('600 devices'),
	});
	expect(world.guard.judge('', 'carol', 'bpf')).toEqual(FREE);
});

test('the weakest host is what the node says it has', () => {
	const { guard, ...world } = new World();
	expect(guard.mechanism).toBeUndefined();
	const holder = { allowDevices: async () => {} };
	guard.add(holder, 'bpf');
	expect(guard.mechanism).toBe('bpf');
	const other = { allowDevices: async () => {} };
	guard.add(other, undefined);
	expect(guard.mechanism).toBe('none');
	guard.remove(other);
	expect(guard.mechanism).toBe('bpf');
	expect(world.told).toEqual([]);
});

test('the policy names device files below /dev only, and the demo’s prefers to hold and starts all the same', () => {
	for (const path of ['/etc/passwd', '/dev/../etc/passwd', 'dev/null', '/dev/a*/b', '/dev/'])
		expect(() => policyOf(`allow = [${JSON.stringify(path)}]`)).toThrow('devices.allow');
	expect(policyOf('allow = ["/dev/infiniband/umad*", "/dev/kvm"]').devices.allow).toHaveLength(2);
	expect(parsePolicy(demoPolicy('carol'), 'policy.toml').devices.isolation).toBe('preferred');
});
