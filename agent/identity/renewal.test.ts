import { describe, expect, test } from 'vitest';
import { GpuaasError } from '../../kit/error.ts';
import { systemRng } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import type { AgentIdentity } from './identity.ts';
import { Renewal } from './renewal.ts';

const LIFE_MS = 24 * 3_600_000;
/** The largest that a generator of [0, 1) gives. */
const ALMOST_1 = 1 - 2 ** -53;

/** A host whose certificate begins now, and whose control plane does what `renew` does. */
function start(float: number, renew: () => Error) {
	const clock = new VirtualClock();
	const beganMs = clock.now();
	/** When it asked, from the beginning of the certificate. */
	const askedMs: number[] = [];
	const credential = { serial: 'ab', notBeforeMs: beganMs, notAfterMs: beganMs + LIFE_MS };
	const renewal = new Renewal({
		identity: { credential: () => credential, joinState: () => 'state' } as unknown as AgentIdentity,
		clock,
		rng: { ...systemRng, float: () => float },
		log: silentLogger,
		renew: () => {
			askedMs.push(clock.now() - beganMs);
			return Promise.reject(renew());
		},
		recover: () => Promise.reject(new Error('nothing has expired')),
	});
	const stop = new AbortController();
	const ended = renewal.run(stop.signal);
	/** Fires its timers, each at its own time, until it has asked so often. It looks at its clock each minute. */
	const untilAsked = async (times: number) => {
		for (let turn = 0; askedMs.length < times && turn < 2 * (LIFE_MS / 60_000); turn += 1) {
			clock.advance(clock.nextInMs() ?? 0);
			for (let step = 0; step < 20; step += 1) await Promise.resolve();
		}
		expect(askedMs).toHaveLength(times);
	};
	const end = async () => {
		stop.abort();
		await ended;
	};
	return { askedMs, untilAsked, renewal, [Symbol.asyncDispose]: end };
}

const unreachable = () => new GpuaasError({ code: 'UNAVAILABLE', reason: 'UNREACHABLE', message: 'no gateway' });

describe('a certificate is renewed', () => {
	test.each([
		[0, 0.4],
		[0.5, 0.5],
		[ALMOST_1, 0.6],
	])('with luck of %d at %d of its life', async (float, part) => {
		await using host = start(float, unreachable);
		await host.untilAsked(1);
		expect(Math.round(host.askedMs[0] ?? 0)).toBe(Math.round(part * LIFE_MS));
	});

	test('and asked for again ever more slowly while that fails, at last every 5 minutes', async () => {
		await using host = start(ALMOST_1, unreachable);
		await host.untilAsked(12);
		const { askedMs } = host;
		const pausesS = askedMs.slice(1).map((atMs, index) => Math.round((atMs - (askedMs[index] ?? 0)) / 1000));
		expect(pausesS).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
		expect(host.renewal.facts().lastError).toBe('no gateway');
	});

	test('and never in a spin, however little luck the pause has', async () => {
		await using host = start(0, unreachable);
		await host.untilAsked(3);
		const [first = 0, second = 0, third = 0] = host.askedMs;
		expect([second - first, third - second]).toEqual([200, 200]);
	});

	test('and no sooner than the control plane says', async () => {
		const metadata = { retry_after_ms: '50000' };
		const limited = { code: 'RESOURCE_EXHAUSTED', reason: 'RATE_LIMITED', message: 'later', metadata } as const;
		await using host = start(0, () => new GpuaasError(limited));
		await host.untilAsked(2);
		const [first = 0, second = 0] = host.askedMs;
		expect(second - first).toBe(50_000);
	});
});
