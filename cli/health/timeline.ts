import { NodeHealth } from '../../health/engine.ts';
import type { Policy } from '../../health/policy.ts';
import { subjectKey, type Verdict } from '../../health/verdict.ts';
import { GpuaasError } from '../../kit/error.ts';
import type { RecordedLine } from './records.ts';

/** A verdict that is another than before. */
export interface VerdictChange {
	readonly atMs: number;
	readonly node: string;
	/** Undefined: the first. */
	readonly before: Verdict['state'] | undefined;
	readonly verdict: Verdict;
}

interface Replayed {
	readonly health: NodeHealth;
	readonly shown: Map<string, { readonly text: string; readonly state: Verdict['state'] }>;
	nowMs: number;
}

/** One replay holds so many nodes. */
const NODES_MAX = 10_000;

/** What the engine would have said, and when; also what silence or time changed between two lines. */
export async function* timeline(
	records: AsyncIterable<RecordedLine>,
	policy: Policy,
	options: { readonly judgesSilence: boolean },
): AsyncGenerator<VerdictChange> {
	const nodes = new Map<string, Replayed>();
	for await (const { node, observation } of records) {
		const replayed = nodes.get(node) ?? {
			health: new NodeHealth(policy, options),
			shown: new Map(),
			nowMs: observation.atMs,
		};
		nodes.set(node, replayed);
		if (nodes.size > NODES_MAX) throw tooMany();
		for (;;) {
			const dueMs = replayed.health.nextDeadlineMs(replayed.nowMs);
			if (dueMs === undefined || dueMs >= observation.atMs) break;
			replayed.nowMs = dueMs;
			yield* changes(replayed, node, dueMs);
		}
		replayed.nowMs = observation.atMs;
		replayed.health.observe(observation);
		yield* changes(replayed, node, observation.atMs);
	}
}

function* changes({ health, shown }: Replayed, node: string, atMs: number): Generator<VerdictChange> {
	for (const verdict of health.verdicts(atMs)) {
		const { state, schedulable, actions, reasons, custody, simulated } = verdict;
		const key = `${custody}/${subjectKey(verdict.subject)}`;
		const text = JSON.stringify([state, schedulable, actions, reasons, simulated]);
		const former = shown.get(key);
		if (former?.text === text) continue;
		shown.set(key, { text, state });
		yield { atMs, node, before: former?.state, verdict };
	}
}

function tooMany(): GpuaasError {
	return new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'HEALTH_RECORD_INVALID',
		message: `the file has facts of more than ${NODES_MAX} nodes; replay them in parts`,
	});
}
