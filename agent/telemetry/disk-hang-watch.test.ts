import { expect, it } from 'vitest';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { DiskHangWatch } from './disk-hang-watch.ts';
import type { HungDisk } from './disk-health.ts';
import { type HealthFactInit, HealthFacts } from './health-facts.ts';

/** An agent, and what it leaves to the next. */
function agent(kept: { bad?: string }) {
	const clock = new VirtualClock();
	const sent: HealthFactInit[] = [];
	const facts = new HealthFacts({
		...{ clock, log: silentLogger, bootId: 'b', isSimulated: () => false },
		append: (fact) => sent.push(fact),
		bad: { get: () => kept.bad, put: (value) => Object.assign(kept, { bad: value }) },
	});
	const watch = new DiskHangWatch(facts);
	return (disks: Readonly<Record<string, string>>, hung: readonly HungDisk[], answering: readonly string[] = []) => {
		sent.length = 0;
		// What repeats within a minute is counted only.
		clock.advance(60_000);
		const listed = Object.entries(disks).map(([device, id]) => ({ device, id }));
		watch.observe(listed, hung, (device) => answering.includes(device));
		return sent.map(({ subject, after, ongoing, raw }) => [subject?.id, after, ongoing, raw]);
	};
}

const HUNG: HungDisk = { device: 'nvme0', sinceMs: 0, evidence: 'process 7: state D', isLeft: false };
const SAID = 'nvme0 has not answered since 1970-01-01T00:00:00.000Z; process 7: state D; it';
const ENDED = `${SAID} was ended`;
const LEFT = `${SAID} does not end, and no other is started before it is gone`;

it('a disk that does not answer goes on so for the next agent, which may not ask it, until it answers', () => {
	const kept = {};
	const disks = { nvme0n1: 'S1', sda: 'S2' };
	expect(agent(kept)(disks, [HUNG])).toEqual([['S1', 1, false, ENDED]]);
	const next = agent(kept);
	expect(next(disks, [], ['sda'])).toEqual([]);
	expect(next(disks, [], ['sda', 'nvme0n1'])).toEqual([['S1', 0, false, 'nvme0 answers again']]);
	expect(next(disks, [], ['sda', 'nvme0n1'])).toEqual([]);
	expect(agent(kept)(disks, [], ['nvme0n1'])).toEqual([]);
});

it('is one and the same while its controller loses its namespaces, and when it is found again by another number', () => {
	const kept = {};
	const first = agent(kept);
	expect(first({ nvme0n1: 'S1' }, [HUNG])).toEqual([['S1', 1, false, ENDED]]);
	expect(first({}, [{ ...HUNG, isLeft: true }])).toEqual([['S1', 1, false, LEFT]]);
	const next = agent(kept);
	expect(next({}, [HUNG])).toEqual([['S1', 1, true, ENDED]]);
	// The old number still has a process that waits.
	expect(next({ nvme3n1: 'S1' }, [HUNG], ['nvme3n1'])).toEqual([]);
	expect(next({ nvme3n1: 'S1' }, [], ['nvme3n1'])).toEqual([['S1', 0, false, 'nvme0 answers again']]);
});

it('of a controller without a namespace ends under the name of the controller', () => {
	const watch = agent({});
	expect(watch({}, [HUNG])).toEqual([['nvme0', 1, false, ENDED]]);
	expect(watch({ nvme0n1: 'S1' }, [], ['nvme0n1'])).toEqual([['nvme0', 0, false, 'nvme0 answers again']]);
});

it('takes a path to a namespace for no disk of its own', () => {
	const watch = agent({});
	expect(watch({ nvme0c0n1: 'path', nvme0n1: 'S1' }, [HUNG])).toEqual([['S1', 1, false, ENDED]]);
});
