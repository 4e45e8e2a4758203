import { DEFAULT_POLICY } from './default-policy.ts';
import { NodeHealth } from './engine.ts';
import type { Observation } from './observation.ts';
import { GPU } from './observations-fixture.ts';
import { parsePolicy } from './parse-policy.ts';
import { type Subject, subjectKey, type Verdict } from './verdict.ts';

/** For tests: the engine with the policy that ships, and its verdict of one thing. */
export const POLICY = parsePolicy(DEFAULT_POLICY);
export const NODE_SUBJECT = { kind: 'node', id: '', index: 0 } as const;
export const MIN = 60_000;
export const HOUR = 60 * MIN;

export function healthOf(...observations: readonly Observation[]): NodeHealth {
	const health = new NodeHealth(POLICY);
	for (const observation of observations) health.observe(observation);
	return health;
}

export function verdictOf(
	health: NodeHealth,
	atMs: number,
	subject: Pick<Subject, 'kind' | 'id' | 'index'> = GPU,
): Verdict {
	const found = health.verdicts(atMs).find((verdict) => subjectKey(verdict.subject) === subjectKey(subject));
	if (found === undefined) throw new Error(`no verdict for ${subjectKey(subject)}`);
	return found;
}
