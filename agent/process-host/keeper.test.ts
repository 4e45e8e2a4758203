import { expect, test } from 'vitest';
import { systemRng } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { type KeptHost, keepHost } from './keeper.ts';

interface Ways {
	readonly watch?: (host: KeptHost, signal: AbortSignal) => Promise<string>;
	readonly attach?: (host: KeptHost) => Promise<void>;
	readonly connect?: () => Promise<KeptHost>;
}

/** Hosts that end when told to; how many were reached. */
function world({ watch, attach = async () => {}, connect }: Ways = {}) {
	const clock = new VirtualClock();
	const stopping = new AbortController();
	const ended = new AbortController();
	const hosts: { end(): void }[] = [];
	let tries = 0;
	const reach = async (): Promise<KeptHost> => {
		tries += 1;
		if (connect !== undefined) return connect();
		const { promise, resolve } = Promise.withResolvers<{ message: string }>();
		hosts.push({ end: () => resolve({ message: 'it ended' }) });
		return { closed: promise, close: async () => {} };
	};
	const attached: KeptHost[] = [];
	const user = {
		attachHost: (host: KeptHost) => {
			attached.push(host);
			return attach(host);
		},
		detachHost: (host: KeptHost) => void attached.splice(attached.indexOf(host), 1),
	};
	const deps = {
		clock,
		// Without luck: each wait is as long as it may be.
		rng: { ...systemRng, float: () => 0.999 },
		log: silentLogger,
		name: 'host',
		connect: reach,
		user,
		stopping: stopping.signal,
	};
	const kept = keepHost(watch === undefined ? deps : { ...deps, watch }, ended.signal);
	return { clock, stopping, ended, hosts, attached, kept, tries: () => tries };
}

test('a host that is lost is replaced', async () => {
	const { clock, ended, hosts, kept } = world();
	await expect.poll(() => hosts.length).toBe(1);
	hosts[0]?.end();
	await expect
		.poll(() => {
			clock.advance(100);
			return hosts.length;
		})
		.toBe(2);
	ended.abort();
	await kept;
});

test('a host that ends because the agent ends is not', async () => {
	const { stopping, hosts, kept } = world();
	await expect.poll(() => hosts.length).toBe(1);
	stopping.abort();
	hosts[0]?.end();
	await kept;
	expect(hosts).toHaveLength(1);
});

test('a host that must go is left and replaced, and no longer watched', async () => {
	const watches: AbortSignal[] = [];
	const { clock, ended, hosts, attached, kept } = world({
		watch: async (_host, signal) => {
			watches.push(signal);
			return watches.length === 1 ? 'it did not answer' : new Promise(() => {});
		},
	});
	await expect
		.poll(() => {
			clock.advance(100);
			return hosts.length;
		})
		.toBe(2);
	await expect.poll(() => watches.map(({ aborted }) => aborted)).toEqual([true, false]);
	expect(attached).toHaveLength(1);
	ended.abort();
	await kept;
	expect(attached).toEqual([]);
	expect(watches.map(({ aborted }) => aborted)).toEqual([true, true]);
});

test('a host that is silent while it is handed over is left for the next one, and watched meanwhile', async () => {
	const watched: KeptHost[] = [];
	const never = new Promise<never>(() => {});
	const { clock, ended, hosts, attached, kept } = world({
		watch: async (host) => {
			watched.push(host);
			return never;
		},
		attach: () => never,
	});
	await expect.poll(() => hosts.length).toBe(1);
	expect(watched).toHaveLength(1);
	await expect
		.poll(() => {
			clock.advance(10_000);
			return hosts.length;
		})
		.toBe(2);
	ended.abort();
	await kept;
	expect(attached).toEqual([]);
});

test('the end of the agent waits neither for a host that is not reached nor for one that is handed over', async () => {
	const never = new Promise<never>(() => {});
	const unreached = world({ connect: () => never });
	await expect.poll(() => unreached.tries()).toBe(1);
	unreached.ended.abort();
	await unreached.kept;

	const silent = world({ attach: () => never });
	await expect.poll(() => silent.hosts.length).toBe(1);
	silent.ended.abort();
	await silent.kept;
});

test('a host that is reached after the agent has ended is closed', async () => {
	const { promise, resolve } = Promise.withResolvers<KeptHost>();
	const { tries, ended, kept } = world({ connect: () => promise });
	await expect.poll(() => tries()).toBe(1);
	ended.abort();
	await kept;
	let closes = 0;
	resolve({
		closed: new Promise(() => {}),
		close: async () => {
			closes += 1;
		},
	});
	await expect.poll(() => closes).toBe(1);
});

test('hosts that die at once are reached ever more slowly; one that lived has the next one without delay', async () => {
	const { clock, ended, hosts, kept } = world();
	const starts: number[] = [];
	let lives = 0;
	const live = async (forMs: number) => {
		await expect
			.poll(
				() => {
					clock.advance(10);
					return hosts.length;
				},
				{ interval: 1 },
			)
			.toBe(lives + 1);
		starts.push(clock.monotonic());
		clock.advance(forMs);
		hosts[lives]?.end();
		lives += 1;
	};
	for (let life = 0; life < 9; life += 1) await live(0);
	const last = (starts.at(-1) ?? 0) - (starts.at(-4) ?? 0);
	expect(last).toBeGreaterThan(4000);
	await live(61_000);
	const endedAtMs = clock.monotonic();
	await live(0);
	expect((starts.at(-1) ?? 0) - endedAtMs).toBeLessThan(100);
	ended.abort();
	await kept;
});
