import { deflateRawSync, inflateRawSync } from 'node:zlib';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { NodeHealth, type SavedHealth } from '../../../health/engine.ts';
import type { Policy } from '../../../health/policy.ts';
import { type HealthState, STATES, type Subject, subjectKey, type Verdict } from '../../../health/verdict.ts';
import { assert, present } from '../../../kit/assert.ts';
import { HealthVerdictSchema, HealthVerdictsSchema } from '../../../proto/gen/gpuaas/telemetry/v1/health_pb.ts';
import type { HealthChangeRow, NodeHealthLine, NodeHealthRow } from '../../store/port/node-health.ts';
import type { NodeRow } from '../../store/port/nodes.ts';
import type { NodeIdentities } from '../telemetry/identities.ts';
import type { NodeSample } from '../telemetry/sample.ts';
import type { Findings } from './quarantine.ts';
import type { Recorded } from './records.ts';
import { beforeMoved, comparable, isGone, type SampleNode, sampleObservation } from './sample-observation.ts';
import { custodyName, stateName, subjectKindName, verdictMessage } from './wire.ts';

/**
 * One node's engine with what of it is stored: which records it has heard, which verdicts were written and when a look is
 * due. Times are those of the monitor, which never go back.
 */
export interface Judgement extends Findings {
	readonly row: NodeHealthRow;
	/** Of the version that was read. */
	readonly ifVersion: number;
	readonly changes: readonly Omit<HealthChangeRow, 'id'>[];
	/** UNHEALTHY now, and at any commit of the quarantine that it is in: `kind/id/index`. As the row keeps them. */
	readonly subjects: readonly string[];
}

/** What the row holds beside columns. */
interface Saved extends SavedHealth {
	readonly subjects?: readonly string[];
}

/** Evidence alone is written this seldom: a node that shouts must not keep the store busy. */
const EVIDENCE_EVERY_MS = 30_000;
/** After so many records a row is written though no verdict changed, so that they need not be heard again. */
const RECORDS_UNWRITTEN_MAX = 256;
/** How soon a node is looked at again where nothing is due: never later than this. */
const LOOK_MS_MAX = 3_600_000;

export class NodeJudge {
	readonly nodeId: string;
	readonly policy: Policy;
	dueMs: number;
	#engine: NodeHealth;
	#row: NodeHealthLine | undefined;
	#verdicts: readonly Verdict[] = [];
	#revision = -1;
	#factId: string;
	#evidenceId: string;
	#unwritten = 0;
	/** Its custody and boot as they were heard last. */
	#node = '';
	#writtenMs = Number.NEGATIVE_INFINITY;
	#isAsked = false;
	/** States of verdicts as they are stored, until this process wrote some itself. */
	#stored: ReadonlyMap<string, string> | undefined;
	/** As they were written last. */
	#written: readonly Verdict[] | undefined;
	/** As the row has them: changes of states would not do, since a quarantine may begin long after one, or without. */
	#subjects: readonly string[] = [];

	/** `recorded`: from the beginning where there is no row, else from where it left off. */
	constructor(
		nodeId: string,
		policy: Policy,
		row: NodeHealthRow | undefined,
		recorded: Recorded,
		nowMs: number,
		silenceFromMs = nowMs,
	) {
		this.nodeId = nodeId;
		this.policy = policy;
		this.#row = row && lineOf(row);
		const saved = row && savedOf(row.saved);
		this.#engine =
			saved === undefined ? new NodeHealth(policy) : NodeHealth.restore(policy, saved, nowMs, silenceFromMs);
		this.#subjects = saved?.subjects ?? [];
		this.#factId = row?.factId ?? '';
		this.#evidenceId = row?.evidenceId ?? '';
		this.#stored = row === undefined ? new Map() : storedStates(row.verdicts);
		const isReplay = row === undefined;
		this.#hearNode(recorded.node, isReplay ? Math.min(recorded.observations[0]?.atMs ?? nowMs, nowMs) : nowMs);
		for (const observation of recorded.observations)
			this.#engine.observe({ ...observation, atMs: isReplay ? Math.min(observation.atMs, nowMs) : nowMs });
		this.#heard(recorded);
		this.#look(nowMs);
		this.dueMs = this.#nextMs(nowMs);
		// A node of which nothing is known gets the time that silence takes before anything is said of it.
		if (row === undefined && recorded.observations.length === 0) return;
		// Where the circuit breaker kept it out of quarantine.
		this.#isAsked ||= row?.state === 'UNHEALTHY' && row.quarantinedAtMs === null && row.gpus > 0;
		if (!this.#isAsked && row?.policyVersion === policy.version && isSame(this.#stored, statesOf(this.#verdicts)))
			this.#accept();
		else this.dueMs = nowMs;
	}

	/** The newest verdicts, written or not. */
	get verdicts(): readonly Verdict[] {
		return this.#verdicts;
	}

	get row(): NodeHealthLine | undefined {
		return this.#row;
	}

	get position(): { readonly factId: string; readonly evidenceId: string } {
		return { factId: this.#factId, evidenceId: this.#evidenceId };
	}

	/** True: something may have changed. */
	hearSample(sample: NodeSample, before: NodeSample | undefined, node: SampleNode, atMs: number): boolean {
		const known = (subject: Subject) => this.#engine.knows(subject);
		const former = comparable(this.policy, sample, before);
		const observation = sampleObservation(this.policy, sample, former, node, atMs, known);
		const parts = beforeMoved(this.policy, observation, former, known);
		if (parts.length > 0) this.#engine.observe({ ...observation, parts });
		this.#engine.observe(observation);
		return this.#engine.revision !== this.#revision;
	}

	/** True: something may have changed. */
	hearRecords(recorded: Recorded, atMs: number): boolean {
		this.#hearNode(recorded.node, atMs);
		for (const observation of recorded.observations) this.#engine.observe({ ...observation, atMs });
		this.#heard(recorded);
		return recorded.observations.length > 0 || this.#engine.revision !== this.#revision;
	}

	/** The platform says who has it. True: something may have changed. */
	hold(held: NodeRow['custody'], atMs: number): boolean {
		this.#engine.observe({ kind: 'custody', held, atMs });
		return this.#engine.revision !== this.#revision;
	}

	/** It is written at the next look, changed or not: whether a quarantine begins or ends has to be asked again. */
	askAgain(atMs: number): void {
		this.#isAsked = true;
		this.dueMs = Math.min(this.dueMs, atMs);
	}

	/** Slices that are not there any more have no verdict; after a repair nor have GPUs and ports. */
	forgetGone(identities: NodeIdentities, kinds: readonly Subject['kind'][], atMs: number): boolean {
		const gone = this.#verdicts.filter(
			({ subject, custody, state }) =>
				custody === 'platform' && state === 'UNKNOWN' && kinds.includes(subject.kind) && isGone(subject, identities),
		);
		for (const { subject } of gone)
			this.#engine.observe({ kind: 'removed', atMs, custody: 'platform', simulated: false, bootId: '', subject });
		return gone.length > 0;
	}

	/** What is to be written now; undefined: nothing. */
	judge(nowMs: number): Judgement | undefined {
		this.#look(nowMs);
		this.dueMs = this.#nextMs(nowMs);
		const written = this.#written;
		if (this.#isAsked || written === undefined || this.#row?.policyVersion !== this.policy.version)
			return this.#judgement(nowMs);
		if (essenceOf(written) !== essenceOf(this.#verdicts)) return this.#judgement(nowMs);
		const isSameWhole = wholeOf(written) === wholeOf(this.#verdicts);
		// One list instead of two: a fleet has ten thousand of each.
		if (isSameWhole) this.#verdicts = written;
		if (this.#unwritten > RECORDS_UNWRITTEN_MAX) return this.#judgement(nowMs);
		if (isSameWhole) return undefined;
		if (nowMs - this.#writtenMs >= EVIDENCE_EVERY_MS) return this.#judgement(nowMs);
		this.dueMs = Math.min(this.dueMs, this.#writtenMs + EVIDENCE_EVERY_MS);
		return undefined;
	}

	/** It was written, with what its quarantine came to. */
	written(row: NodeHealthRow, subjects: readonly string[], nowMs: number): void {
		this.#row = lineOf(row);
		this.#subjects = subjects;
		this.#writtenMs = nowMs;
		this.#unwritten = 0;
		this.#isAsked = false;
		this.#accept();
	}

	#accept(): void {
		this.#stored = undefined;
		this.#written = this.#verdicts;
	}

	/** Before what is recorded: the boot of its session is the newest, whatever clocks say. */
	#hearNode({ bootId, custody }: Recorded['node'], atMs: number): void {
		const heard = `${custody} ${bootId}`;
		if (heard === this.#node) return;
		this.#node = heard;
		this.#engine.observe({ kind: 'custody', held: custody, atMs });
		// In other hands its samples tell its boot: a session alone says nothing there.
		if (custody === 'platform') this.#engine.observe({ kind: 'session', atMs, custody, simulated: false, bootId });
	}

	#heard({ observations, factId, evidenceId }: Recorded): void {
		this.#factId = factId;
		this.#evidenceId = evidenceId;
		this.#unwritten += observations.length;
		this.#isAsked ||= observations.some(({ kind }) => kind === 'clearing');
	}

	#look(nowMs: number): void {
		this.#engine.observe({ kind: 'time', atMs: nowMs });
		this.#verdicts = this.#engine.verdicts(nowMs);
		this.#revision = this.#engine.revision;
	}

	#nextMs(nowMs: number): number {
		return Math.min(this.#engine.nextDeadlineMs(nowMs) ?? Number.POSITIVE_INFINITY, nowMs + LOOK_MS_MAX);
	}

	#judgement(nowMs: number): Judgement {
		const verdicts = this.#verdicts;
		const platform = verdicts.filter(({ custody }) => custody === 'platform');
		const node = present(
			platform.find(({ subject }) => subject.kind === 'node'),
			'a node has a verdict of its own',
		);
		const before = this.#row;
		const isSame = before?.state === node.state;
		const subjects = this.#subjectsNow(platform);
		const row: NodeHealthRow = {
			nodeId: this.nodeId,
			state: node.state,
			schedulable: node.schedulable,
			claimed: severest(verdicts.filter(({ custody }) => custody !== 'platform').map(({ state }) => state)),
			simulated: node.simulated,
			gpus: platform.filter(({ subject }) => subject.kind === 'gpu').length,
			policyVersion: this.policy.version,
			// Well since it was judged so: what ended is told of its parts.
			sinceMs: node.state === 'HEALTHY' ? (isSame ? before.sinceMs : nowMs) : node.sinceMs,
			verdicts: toBinary(
				HealthVerdictsSchema,
				create(HealthVerdictsSchema, { verdicts: verdicts.map(verdictMessage) }),
			),
			saved: deflateRawSync(JSON.stringify({ ...this.#engine.save(nowMs), subjects } satisfies Saved), { level: 1 }),
			...this.position,
			quarantinedAtMs: before?.quarantinedAtMs ?? null,
			quarantineReason: before?.quarantineReason ?? '',
			quarantines: before?.quarantines ?? [],
			judgedAtMs: nowMs,
			version: (before?.version ?? 0) + 1,
		};
		return {
			row,
			ifVersion: before?.version ?? 0,
			changes: this.#changes(nowMs),
			subjects,
			loadCleared: platform.flatMap(({ subject, clearedBy, clearedAtMs }) =>
				clearedBy === 'clean_load' ? [{ key: subjectKey(subject), atMs: clearedAtMs ?? 0 }] : [],
			),
			reason: reasonOf(node),
			isReal: node.realState === 'UNHEALTHY',
		};
	}

	/** Without what is simulated: a quarantine that only a drill made ends by time. */
	#subjectsNow(platform: readonly Verdict[]): readonly string[] {
		const now = platform.filter(({ realState }) => realState === 'UNHEALTHY').map(({ subject }) => subjectKey(subject));
		const isIn = (this.#row?.quarantinedAtMs ?? null) !== null;
		return [...new Set([...(isIn ? this.#subjects : []), ...now])];
	}

	#changes(nowMs: number): readonly Omit<HealthChangeRow, 'id'>[] {
		const before = this.#stored ?? statesOf(this.#written ?? []);
		return this.#verdicts.flatMap((verdict): Omit<HealthChangeRow, 'id'>[] => {
			const { subject, custody, state } = verdict;
			const former = before.get(`${custody}/${subjectKey(subject)}`) ?? '';
			// What is well from the beginning is no change.
			if (former === state || (former === '' && state === 'HEALTHY')) return [];
			return [
				{
					nodeId: this.nodeId,
					custody,
					kind: subject.kind,
					subjectId: subject.id,
					subjectIndex: subject.index,
					before: former,
					after: state,
					verdict: toBinary(HealthVerdictSchema, verdictMessage(verdict)),
					atMs: nowMs,
				},
			];
		});
	}
}

function savedOf(bytes: Uint8Array): Saved {
	const saved = JSON.parse(inflateRawSync(bytes).toString()) as Saved;
	assert(saved.version === 1, 'a saved engine is of a form that this version knows');
	return saved;
}

function lineOf({ verdicts: _, saved: __, ...line }: NodeHealthRow): NodeHealthLine {
	return line;
}

function statesOf(verdicts: readonly Verdict[]): ReadonlyMap<string, string> {
	return new Map(verdicts.map(({ subject, custody, state }) => [`${custody}/${subjectKey(subject)}`, state]));
}

function storedStates(bytes: Uint8Array): ReadonlyMap<string, string> {
	const { verdicts } = fromBinary(HealthVerdictsSchema, bytes);
	return new Map(
		verdicts.flatMap(({ subject, custody, state }) => {
			const kind = subject && subjectKindName(subject.kind);
			if (subject === undefined || kind === undefined) return [];
			const key = subjectKey({ kind, id: subject.id, index: subject.index });
			return [[`${custodyName(custody)}/${key}`, stateName(state)] as const];
		}),
	);
}

function isSame(left: ReadonlyMap<string, string>, right: ReadonlyMap<string, string>): boolean {
	return left.size === right.size && [...left].every(([key, state]) => right.get(key) === state);
}

/** What a change of is an event. */
function essenceOf(verdicts: readonly Verdict[]): string {
	return JSON.stringify(
		verdicts.map(({ subject, custody, state, schedulable, actions, reasons, simulated, clearedBy }) => [
			`${custody}/${subjectKey(subject)}`,
			state,
			...[schedulable, simulated, clearedBy, actions.join()],
			reasons.map(({ checkId, code }) => `${checkId}/${code}`).join(),
		]),
	);
}

function wholeOf(verdicts: readonly Verdict[]): string {
	return verdicts
		.map(({ evidence, sinceMs }) => `${sinceMs} ${evidence.length} ${evidence.at(-1)?.observedAtMs ?? ''}`)
		.join();
}

function severest(states: readonly HealthState[]): string {
	const worst = states.reduce((rank, state) => Math.max(rank, STATES.indexOf(state)), 0);
	return worst === 0 ? '' : (STATES[worst] ?? '');
}

/** Of what is real where that alone makes it UNHEALTHY. */
function reasonOf({ reasons, realState }: Verdict): string {
	const first = reasons.find(({ simulated }) => !simulated || realState !== 'UNHEALTHY');
	if (first === undefined) return '';
	return first.code === '' ? first.checkId : `${first.checkId} ${first.code}`;
}
