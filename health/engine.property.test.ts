import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DEFAULT_POLICY } from './default-policy.ts';
import { NodeHealth, type SavedHealth } from './engine.ts';
import { FACT_KINDS } from './fact-kinds.ts';
import type { Observation } from './observation.ts';
import { clearingAt, factAt, GPU, sampleAt, xidAt } from './observations-fixture.ts';
import { parsePolicy } from './parse-policy.ts';
import { type Custody, NODE, orderedActions, type Subject, subjectKey, type Verdict } from './verdict.ts';

/** The invariants that engine.ts promises, over whatever a node may say. */
const POLICY = parsePolicy(DEFAULT_POLICY);
/** Longer than any silence that is still data. */
const LONG_MS = 3 * 15_000 * 4;

const subject = fc.constantFrom<Subject>(
	NODE,
	GPU,
	{ kind: 'gpu', id: 'GPU-b', index: 0 },
	{ kind: 'slice', id: 'MIG-1', index: 0, gpu: 'GPU-b' },
	{ kind: 'nvlink', id: 'GPU-a', index: 2 },
	{ kind: 'nic', id: 'mlx5_0', index: 1 },
);
const custody = fc.constantFrom<Custody>('platform', 'platform', 'tenant', 'transit');
const codes = fc.constantFrom(
	...new Set(DEFAULT_POLICY.facts.map(({ code = '' }) => code)),
	'xid:31',
	'xid:46',
	'xid:79',
	'xid:154',
	'nonsense',
);
const boot = fc.constantFrom('', 'boot-1', 'boot-2', 'boot-3');
const small = fc.constantFrom(0, 1, 2, 3, 4, 5, 512, 1e6);
type At = (atMs: number) => Observation;

const xid = fc
	.tuple(fc.integer({ min: 1, max: 180 }), custody, boot, subject, fc.boolean(), fc.constantFrom('a', 'b'))
	.map(
		([code, whose, bootId, about, simulated, tenant]): At =>
			(atMs) =>
				xidAt(atMs, code, { custody: whose, bootId, subject: about, simulated, tenant }),
	);
const fact = fc.tuple(fc.constantFrom(...FACT_KINDS), codes, custody, boot, subject, small).map(
	([kind, code, whose, bootId, about, after]): At =>
		(atMs) =>
			factAt(atMs, { fact: kind, code, custody: whose, bootId, subject: about, after }),
);
const sample = fc
	.tuple(custody, boot, fc.subarray([GPU, { ...GPU, id: 'GPU-b' }]), small, fc.boolean(), fc.constantFrom(0, 0, 1, 2))
	.map(
		([whose, bootId, subjects, counter, isBusy, action]): At =>
			(atMs) => {
				const values = {
					'ecc.volatile.corrected': counter,
					'utilisation.gpu': isBusy ? 0.9 : 0,
					recovery_action: action,
				};
				const parts = subjects.map((about) => ({ subject: about, values }));
				return sampleAt(atMs, {}, { custody: whose, bootId, parts });
			},
	);
const clearing = fc
	.tuple(fc.constantFrom('gpu_reset' as const, 'diagnostic_passed' as const, 'serviced' as const), subject, custody)
	.map(
		([word, about, whose]): At =>
			(atMs) => ({ ...clearingAt(atMs, word, about), custody: whose }),
	);
const removed = fc.tuple(subject, custody).map(
	([about, whose]): At =>
		(atMs) => ({ kind: 'removed', atMs, custody: whose, simulated: false, bootId: '', subject: about }),
);
const gap = fc.constantFrom(0, 1, 1000, 15_000, 60_000, 240_000, 3_600_000, 90_000_000);
const story = fc
	.array(fc.tuple(gap, fc.oneof(xid, fact, sample, clearing, removed)), { maxLength: 40 })
	.map((steps) => {
		let atMs = 0;
		return steps.map(([gapMs, at]) => {
			atMs += gapMs;
			return at(atMs);
		});
	});

function replay(observations: readonly Observation[], each?: (verdicts: readonly Verdict[]) => void) {
	const health = new NodeHealth(POLICY);
	let atMs = 0;
	for (const observation of observations) {
		health.observe(observation);
		({ atMs } = observation);
		each?.(health.verdicts(atMs));
	}
	return { health, atMs };
}

const platformOf = (verdicts: readonly Verdict[]) => verdicts.filter((verdict) => verdict.custody === 'platform');
const byKey = (verdicts: readonly Verdict[]) =>
	new Map(verdicts.map((verdict) => [subjectKey(verdict.subject), verdict]));

describe('whatever a node says', () => {
	it('UNHEALTHY asks for something, and is never schedulable', () => {
		fc.assert(
			fc.property(story, (observations) => {
				replay(observations, (verdicts) => {
					for (const { state, actions, schedulable, custody: whose, policyVersion, reasons } of verdicts) {
						expect(actions.length).toBeGreaterThan(0);
						expect(policyVersion).toBe(POLICY.version);
						if (state !== 'HEALTHY') expect(reasons.length).toBeGreaterThan(0);
						if (state === 'UNHEALTHY') expect(actions[0]).not.toBe('NONE');
						if (whose === 'platform' && (state === 'UNHEALTHY' || state === 'UNKNOWN')) expect(schedulable).toBe(false);
					}
				});
			}),
		);
	});

	it('silence is never HEALTHY nor schedulable, and never ends what was wrong', () => {
		fc.assert(
			fc.property(story, fc.integer({ min: LONG_MS, max: 1e9 }), (observations, laterMs) => {
				const { health, atMs } = replay(observations);
				const before = byKey(platformOf(health.verdicts(atMs)));
				for (const verdict of platformOf(health.verdicts(atMs + laterMs))) {
					expect([verdict.state, verdict.schedulable]).not.toContain('HEALTHY');
					expect(verdict.schedulable).toBe(false);
					if (before.get(subjectKey(verdict.subject))?.state === 'UNHEALTHY') expect(verdict.state).toBe('UNHEALTHY');
				}
			}),
		);
	});

	it('in tenant or transit custody changes no verdict of the platform, and no `schedulable`', () => {
		fc.assert(
			fc.property(story, (observations) => {
				const trusted = observations.map(
					(one): Observation =>
						one.kind === 'time' || one.kind === 'custody' || one.custody === 'platform'
							? one
							: { kind: 'time', atMs: one.atMs },
				);
				const with_ = replay(observations);
				const without = replay(trusted);
				const expected = without.health.verdicts(without.atMs);
				const verdicts = with_.health.verdicts(with_.atMs);
				expect(platformOf(verdicts)).toEqual(expected);
				const open = byKey(expected);
				for (const verdict of verdicts)
					expect(verdict.schedulable).toBe(open.get(subjectKey(verdict.subject))?.schedulable ?? false);
			}),
		);
	});

	it('XIDs of one burst mean the same in any order', () => {
		const burst = fc.uniqueArray(fc.integer({ min: 1, max: 172 }), { minLength: 1, maxLength: 8 }).chain((list) => {
			const facts = list.map((code, index) => xidAt(1e6, code, { observedAtMs: 1e5 + index * 100_000 }));
			return fc.tuple(fc.constant(facts), fc.shuffledSubarray(facts, { minLength: facts.length }));
		});
		const essence = ({ state, actions, reasons, sinceMs }: Verdict) => ({ state, actions, reasons, sinceMs });
		fc.assert(
			fc.property(burst, ([ordered, shuffled]) => {
				const all = [ordered, shuffled].map((facts) => {
					const { health } = replay([sampleAt(1e6), ...facts]);
					return health.verdicts(1e6).map(essence);
				});
				expect(all[1]).toEqual(all[0]);
			}),
		);
	});

	it('the driver’s own action is the action, whatever the table says, whichever comes first', () => {
		const action = fc.integer({ min: 1, max: 5 });
		fc.assert(
			fc.property(
				fc.array(fc.integer({ min: 1, max: 172 }), { maxLength: 5 }),
				action,
				fc.boolean(),
				(list, n, first) => {
					const said = sampleAt(1000, { recovery_action: n });
					const xids = list.map((code) => xidAt(1000, code));
					const { health } = replay(first ? [said, ...xids] : [...xids, said]);
					const verdict = byKey(health.verdicts(1000)).get(subjectKey(GPU));
					expect(verdict?.state).toBe('UNHEALTHY');
					expect(verdict?.actions).toEqual(orderedActions(POLICY.recoveryActions.get(n)?.actions ?? []));
				},
			),
		);
	});

	it('what is UNHEALTHY stays so without evidence, whatever else is heard', () => {
		const noise = fc.array(fc.tuple(gap, fc.integer({ min: 1, max: 172 }), fc.boolean()), { maxLength: 20 });
		fc.assert(
			fc.property(fc.constantFrom(46, 48, 54, 74, 79, 95, 119), noise, (code, steps) => {
				let atMs = 1000;
				const heard = steps.map(([gapMs, other, isSample]) => {
					atMs += gapMs;
					const idle = { recovery_action: 0, 'utilisation.gpu': 0.9, 'ecc.volatile.corrected': 0 };
					return isSample ? sampleAt(atMs, idle, { bootId: 'boot-1' }) : xidAt(atMs, other);
				});
				replay([xidAt(1000, code), ...heard], (verdicts) => {
					expect(byKey(verdicts).get(subjectKey(GPU))?.state).toBe('UNHEALTHY');
				});
			}),
		);
	});

	it('what came from a test double says so', () => {
		fc.assert(
			fc.property(story, (observations) => {
				const simulated = observations.map((one) => (one.kind === 'time' ? one : { ...one, simulated: true }));
				replay(simulated, (verdicts) => {
					for (const { state, simulated: isSaid, reasons } of verdicts)
						if (state !== 'HEALTHY')
							expect(isSaid || reasons.every((reason) => reason.checkId === 'silence' || reason.simulated)).toBe(true);
				});
			}),
		);
	});

	it('verdicts change between observations only at the deadlines that the engine names', () => {
		const essence = ({ state, schedulable }: Verdict) => [state, schedulable];
		fc.assert(
			fc.property(story, fc.integer({ min: 1, max: 1e7 }), (observations, laterMs) => {
				const { health, atMs } = replay(observations);
				const due = health.nextDeadlineMs(atMs) ?? Number.POSITIVE_INFINITY;
				if (due <= atMs + laterMs) return;
				expect(health.verdicts(atMs + laterMs).map(essence)).toEqual(health.verdicts(atMs).map(essence));
			}),
		);
	});

	it('a saved engine gives the platform’s verdicts of the one that was saved', () => {
		fc.assert(
			fc.property(story, (observations) => {
				const { health, atMs } = replay(observations);
				const saved = JSON.parse(JSON.stringify(health.save(atMs))) as SavedHealth;
				const restored = NodeHealth.restore(POLICY, saved, atMs);
				expect(platformOf(restored.verdicts(atMs))).toEqual(platformOf(health.verdicts(atMs)));
			}),
		);
	});

	it('no verdict changes at a moment while the revision does not', () => {
		const essence = ({ state, schedulable, actions, reasons }: Verdict) => ({ state, schedulable, actions, reasons });
		fc.assert(
			fc.property(story, (observations) => {
				const health = new NodeHealth(POLICY);
				for (const observation of observations) {
					health.observe({ kind: 'time', atMs: observation.atMs });
					const before = { revision: health.revision, verdicts: health.verdicts(observation.atMs).map(essence) };
					health.observe(observation);
					if (health.revision === before.revision)
						expect(health.verdicts(observation.atMs).map(essence)).toEqual(before.verdicts);
				}
			}),
		);
	});
});
