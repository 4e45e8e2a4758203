import { parsePolicy } from '../../../health/parse-policy.ts';
import type { Policy, PolicyDocument } from '../../../health/policy.ts';
import type { Verdict } from '../../../health/verdict.ts';
import { messageOf } from '../../../kit/error.ts';
import { Slices } from '../../../kit/slices.ts';
import type { NodeHealthRow } from '../../store/port/node-health.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { AgentSessions } from '../sessions/agent-sessions.ts';
import type { NodeSample } from '../telemetry/sample.ts';
import type { Telemetry } from '../telemetry/telemetry.ts';
import { type CommitDeps, commitJudgement, isElsewhere, isHeldElsewhere } from './commit.ts';
import { NodeJudge } from './node-judge.ts';
import { isBreakerOpen } from './quarantine.ts';
import { type Recorded, recordsAfter } from './records.ts';

/**
 * Judges the nodes of this replica: an engine a node, which hears each sample here and each record from the store, and is
 * asked only when something may have changed or a deadline passed. Verdicts are written when they change, fenced by the
 * row's version; so replicas that judge one node write one after the other, and the later one reads first. What is in
 * memory can be lost: each row holds what its engine goes on from.
 */
export type MonitorDeps = CommitDeps & {
	readonly sessions: AgentSessions;
	readonly telemetry: Telemetry;
	/** Checked: a bad one throws HEALTH_POLICY_INVALID at the start. */
	readonly policy: PolicyDocument;
	/** The node label that names its fleet in the policy. */
	readonly fleetLabel: string;
	/** After the start no node is silent that was heard before: as long as agents may take to come back. Default 0. */
	readonly startGraceMs?: number;
};

/** In one activation; a fleet that changes all at once takes some of them. */
const LOADED_AT_ONCE = 500;
const LOADED_A_READ = 50;
const RECORDS_AT_ONCE = 200;
const JUDGED_AT_ONCE = 1000;
const WRITTEN_TOGETHER = 64;
/** Of one activation at a time: calls, pages and frames of other nodes wait so long. */
const SLICE_MS = 8;
/** A timer that was late by so much: this process stood still, and what nodes said waits in sockets. */
const STALL_MS = 5000;
const STALL_GRACE_MS = 15_000;
/** A node that could not be read or written is looked at again. */
const AGAIN_MS = 15_000;
/** Whether a node that the circuit breaker kept out of quarantine may go there now. */
const BREAKER_AGAIN_MS = 60_000;
/** A node that another replica hears: whether it still does, should nothing come here. */
const ELSEWHERE_AGAIN_MS = 60_000;
/** Nodes whose records are read again though nobody told of any: another replica may have stored some. */
const REREAD_AT_ONCE = 20;
const COUNT_EVERY_MS = 10_000;
const COUNT_LEASE = 'node-health-counts';
/** Three counts: a replica that stopped is followed by another. */
const LEASE_MS = 3 * COUNT_EVERY_MS;
const SESSIONS_A_READ = 500;

export interface HealthCounts {
	readonly states: Readonly<Record<Verdict['state'], number>>;
	readonly quarantined: number;
	readonly simulated: number;
	readonly claimed: number;
}

export class HealthMonitor {
	readonly #deps: MonitorDeps;
	readonly #policies = new Map<string, Policy>();
	readonly #judges = new Map<string, NodeJudge>();
	readonly #toLoad = new Set<string>();
	/** Of these something was recorded. */
	readonly #toRead = new Set<string>();
	/** Of these nothing is read before then: reading failed. What they hold goes on being judged. */
	readonly #readLater = new Map<string, number>();
	readonly #dirty = new Set<string>();
	/** Not judged here before then: another replica hears them, or they could not be read. */
	readonly #later = new Map<string, number>();
	#loadedARead = LOADED_A_READ;
	#reread: Iterator<string> | undefined;
	readonly #startedWallMs: number;
	readonly #startedMs: number;
	#lastTickMs: number;
	#notBeforeMs = Number.NEGATIVE_INFINITY;
	#changes = 0;
	/** It counts nodes that no replica has a session of; elsewhere they are counted too, in memory, and not shown. */
	#countsSilent = false;
	/** Without a session here, and with one on another replica, when that was looked at last. */
	#elsewhere: ReadonlySet<string> = new Set();
	/** No more nodes may be in quarantine, when they were counted last. */
	#isFull = false;
	readonly #kept = new Set<string>();
	#nextCountMs = Number.NEGATIVE_INFINITY;

	constructor(deps: MonitorDeps) {
		this.#deps = deps;
		this.#startedWallMs = deps.clock.now();
		this.#startedMs = deps.clock.monotonic();
		this.#lastTickMs = this.#startedMs;
		this.#policies.set('', parsePolicy(deps.policy));
		for (const fleet of Object.keys(deps.policy.fleets)) this.#policies.set(fleet, parsePolicy(deps.policy, fleet));
	}

	/** Follows samples and the directory from now on; undone by what it returns. */
	listen(): () => void {
		const { telemetry } = this.#deps;
		for (const { node } of telemetry.directory.entries()) this.#toLoad.add(node.id);
		const off = telemetry.ingest.listen({ onSample: (sample, before) => this.#onSample(sample, before) });
		const offDirectory = telemetry.directory.onChange((nodeId) => this.#onEntry(nodeId));
		return () => {
			off();
			offDirectory();
		};
	}

	/** Something of the node was stored: facts, evidence, an override. */
	readonly onRecord = (nodeId: string): void => {
		this.#toRead.add(nodeId);
	};

	/** Of the node as this replica knows it; empty: it doesn't. */
	verdictsOf(nodeId: string): readonly Verdict[] {
		return this.#judges.get(nodeId)?.verdicts ?? [];
	}

	isQuarantined(nodeId: string): boolean {
		return (this.#judges.get(nodeId)?.row?.quarantinedAtMs ?? null) !== null;
	}

	/** Verdicts whose state changed since the start. */
	get changes(): number {
		return this.#changes;
	}

	/** It keeps nodes out of quarantine. */
	get isBreakerOpen(): boolean {
		return this.#kept.size > 0;
	}

	/**
	 * Of each node on one replica, so that their sums over replicas are those of the fleet: whoever has its session counts
	 * it, and one of them all that are silent. While a node moves it may be counted twice, or not, for some seconds.
	 */
	counts(): HealthCounts {
		const states = { HEALTHY: 0, DEGRADED: 0, UNKNOWN: 0, UNHEALTHY: 0 };
		let [quarantined, simulated, claimed] = [0, 0, 0];
		for (const { row, nodeId } of this.#judges.values()) {
			if (row === undefined || !this.#counts(nodeId)) continue;
			states[row.state as keyof typeof states] += 1;
			if (row.quarantinedAtMs !== null) quarantined += 1;
			if (row.simulated) simulated += 1;
			if (row.claimed !== '') claimed += 1;
		}
		return { states, quarantined, simulated, claimed };
	}

	/** One activation: a bounded amount of work. */
	async tick(): Promise<void> {
		const monotonic = this.#deps.clock.monotonic();
		if (monotonic - this.#lastTickMs > STALL_MS) this.#notBeforeMs = this.#nowMs() + STALL_GRACE_MS;
		this.#lastTickMs = monotonic;
		for (const [id, atMs] of this.#later) if (atMs <= monotonic) this.#reload(id);
		await this.#load();
		this.#readAgain(monotonic);
		await this.#read();
		await this.#judge();
		if (monotonic < this.#nextCountMs) return;
		this.#nextCountMs = monotonic + COUNT_EVERY_MS;
		await this.#share();
		const fleet = await this.#deps.store.read((tx) => tx.nodeHealth.fleet());
		this.#isFull = isBreakerOpen({ ...fleet, gpuNodes: Math.max(1, fleet.gpuNodes) }, this.#deps.quarantine);
	}

	#counts(nodeId: string): boolean {
		if (this.#deps.sessions.isConnected(nodeId)) return true;
		return this.#countsSilent && !this.#elsewhere.has(nodeId);
	}

	/** Which replica counts nodes that none has a session of. */
	async #share(): Promise<void> {
		const { store, sessions, replicaId } = this.#deps;
		const nowMs = await store.now();
		this.#countsSilent = await store.unit((tx) => tx.leases.acquire(COUNT_LEASE, replicaId, nowMs, nowMs + LEASE_MS));
		if (!this.#countsSilent) return;
		const away = [...this.#judges.keys()].filter((nodeId) => !sessions.isConnected(nodeId));
		const elsewhere = new Set<string>();
		const slices = this.#slices();
		for (let from = 0; from < away.length; from += SESSIONS_A_READ) {
			const some = away.slice(from, from + SESSIONS_A_READ);
			for (const session of await store.read((tx) => tx.sessions.getMany(some)))
				if (isHeldElsewhere(session, replicaId)) elsewhere.add(session.nodeId);
			if (slices.isOver) await slices.next();
		}
		this.#elsewhere = elsewhere;
	}

	#slices(): Slices {
		return new Slices(this.#deps.clock, SLICE_MS);
	}

	/** Wall clock at the start, and what passed since: never goes back. */
	#nowMs(): number {
		return Math.floor(this.#startedWallMs + this.#deps.clock.monotonic() - this.#startedMs);
	}

	#onSample(sample: NodeSample, before: NodeSample | undefined): void {
		const judge = this.#judges.get(sample.nodeId);
		if (judge === undefined) {
			// Where it could not be read, time has to pass.
			if (!this.#later.has(sample.nodeId) || this.#deps.sessions.isConnected(sample.nodeId))
				this.#reload(sample.nodeId);
			return;
		}
		const entry = this.#deps.telemetry.directory.get(sample.nodeId);
		const bootId = entry?.node.custody === sample.custody ? entry.node.bootId : '';
		const node = { identities: entry?.identities, bootId };
		if (judge.hearSample(sample, before, node, this.#nowMs())) this.#dirty.add(sample.nodeId);
	}

	#onEntry(nodeId: string): void {
		const entry = this.#deps.telemetry.directory.get(nodeId);
		if (entry === undefined) this.#forget(nodeId);
		else {
			const judge = this.#judges.get(nodeId);
			if (judge === undefined || judge.policy !== this.#policyOf(nodeId)) this.#reload(nodeId);
			else if (judge.hold(entry.node.custody, this.#nowMs())) this.#dirty.add(nodeId);
		}
	}

	#forget(nodeId: string): void {
		const inSets = [this.#toLoad, this.#toRead, this.#dirty, this.#kept];
		for (const known of [this.#judges, this.#later, this.#readLater, ...inSets]) known.delete(nodeId);
	}

	#reload(nodeId: string): void {
		this.#forget(nodeId);
		this.#toLoad.add(nodeId);
	}

	#leave(nodeId: string, forMs: number): void {
		this.#forget(nodeId);
		this.#later.set(nodeId, this.#deps.clock.monotonic() + forMs);
	}

	#policyOf(nodeId: string): Policy {
		const { directory } = this.#deps.telemetry;
		const fleet = directory.get(nodeId)?.node.labels[this.#deps.fleetLabel] ?? '';
		const policy = this.#policies.get(fleet) ?? this.#policies.get('');
		if (policy === undefined) throw new TypeError('there is a policy for no fleet');
		return policy;
	}

	async #load(): Promise<void> {
		const { log, telemetry } = this.#deps;
		const ids = take(this.#toLoad, LOADED_AT_ONCE);
		const size = this.#loadedARead;
		this.#loadedARead = LOADED_A_READ;
		const slices = this.#slices();
		for (let from = 0; from < ids.length; from += size) {
			const some = ids.slice(from, from + size);
			try {
				for (const found of await this.#stored(some)) {
					// Removed meanwhile.
					if (telemetry.directory.get(found.id) === undefined) continue;
					if (found.isElsewhere) this.#leave(found.id, ELSEWHERE_AGAIN_MS);
					else this.#begin(found);
				}
			} catch (error) {
				for (const id of ids.slice(from)) this.#toLoad.add(id);
				// One by one, so that what is wrong with one node keeps no other from being judged.
				this.#loadedARead = 1;
				const [only = ''] = some;
				if (size === 1) this.#leave(only, AGAIN_MS);
				log.error('health of nodes was not read and is tried again', { nodes: some.length, node: only, error });
				return;
			}
			if (slices.isOver) await slices.next();
		}
	}

	async #stored(ids: readonly string[]): Promise<readonly Stored[]> {
		const { store, sessions, replicaId } = this.#deps;
		return store.read(function* (tx) {
			const rows = new Map((yield* tx.nodeHealth.ofNodes(ids)).map((row) => [row.nodeId, row]));
			const all: Stored[] = [];
			for (const id of ids) {
				const row = rows.get(id);
				const isOther = !sessions.isConnected(id) && (yield* isElsewhere(tx, id, replicaId));
				all.push({ id, row, recorded: yield* recordsOf(tx, id, row), isElsewhere: isOther });
			}
			return all;
		});
	}

	#begin({ id, row, recorded }: Stored): void {
		const nowMs = this.#nowMs();
		const silenceFromMs = Math.max(nowMs, this.#startedWallMs + (this.#deps.startGraceMs ?? 0));
		this.#judges.set(id, new NodeJudge(id, this.#policyOf(id), row, recorded, nowMs, silenceFromMs));
		if (recorded.isCut) this.#toRead.add(id);
		const newest = this.#deps.telemetry.latest.fresh(id);
		if (newest !== undefined) this.#onSample(newest, undefined);
	}

	/** All in turn, some an activation; and where reading failed. */
	#readAgain(monotonic: number): void {
		for (const [id, atMs] of this.#readLater) {
			if (atMs > monotonic) continue;
			this.#readLater.delete(id);
			this.#toRead.add(id);
		}
		this.#reread ??= this.#judges.keys();
		for (let count = 0; count < REREAD_AT_ONCE; count += 1) {
			const { value, done } = this.#reread.next();
			if (done === true) {
				this.#reread = undefined;
				return;
			}
			this.#toRead.add(value);
		}
	}

	async #read(): Promise<void> {
		const ids = take(this.#toRead, RECORDS_AT_ONCE);
		const slices = this.#slices();
		for (const [index, id] of ids.entries()) {
			const judge = this.#judges.get(id);
			if (judge === undefined || this.#readLater.has(id)) continue;
			let recorded: Recorded;
			try {
				const { factId, evidenceId } = judge.position;
				recorded = await this.#deps.store.read((tx) => recordsAfter(tx, id, factId, evidenceId));
			} catch (error) {
				// What only samples said is stored nowhere but here, so the engine stays.
				if (this.#judges.get(id) === judge) this.#readLater.set(id, this.#deps.clock.monotonic() + AGAIN_MS);
				for (const other of ids.slice(index + 1)) this.#toRead.add(other);
				this.#deps.log.error('records of a node were not read and are tried again', { node: id, error });
				return;
			}
			// Forgotten or begun anew meanwhile.
			if (this.#judges.get(id) === judge) this.#hear(judge, recorded);
			if (slices.isOver) await slices.next();
		}
	}

	#hear(judge: NodeJudge, recorded: Recorded): void {
		const { nodeId } = judge;
		try {
			if (judge.hearRecords(recorded, this.#nowMs())) this.#dirty.add(nodeId);
			if (recorded.isCut) this.#toRead.add(nodeId);
			if (recorded.observations.some((one) => one.kind === 'clearing' && one.clearing === 'serviced'))
				this.#forgetGone(judge, ['gpu', 'nvlink', 'nic', 'slice']);
		} catch (error) {
			// It is begun anew from what is stored: nothing is taken for heard that was not.
			this.#leave(nodeId, AGAIN_MS);
			this.#deps.log.error('records of a node were not understood; it is begun anew', { node: nodeId, error });
		}
	}

	async #judge(): Promise<void> {
		const nowMs = this.#nowMs();
		const ids = new Set(take(this.#dirty, JUDGED_AT_ONCE));
		if (nowMs >= this.#notBeforeMs)
			for (const { nodeId, dueMs } of this.#judges.values()) {
				if (ids.size >= JUDGED_AT_ONCE) break;
				if (dueMs <= nowMs) ids.add(nodeId);
			}
		const due = [...ids].flatMap((id) => this.#judges.get(id) ?? []);
		const slices = this.#slices();
		for (let from = 0; from < due.length; from += WRITTEN_TOGETHER) {
			const writing: Promise<void>[] = [];
			for (const judge of due.slice(from, from + WRITTEN_TOGETHER)) {
				if (slices.isOver) await slices.next();
				writing.push(this.#judgeOne(judge));
			}
			await Promise.all(writing);
		}
	}

	async #judgeOne(judge: NodeJudge): Promise<void> {
		const { nodeId } = judge;
		const { sessions, log } = this.#deps;
		try {
			const nowMs = this.#nowMs();
			let judgement = judge.judge(nowMs);
			if (judgement !== undefined && this.#forgetGone(judge, ['slice'])) judgement = judge.judge(this.#nowMs());
			if (judgement === undefined) return;
			const known = { isOurs: sessions.isConnected(nodeId), isFull: this.#isFull };
			const committed = await commitJudgement(this.#deps, judgement, known);
			if (committed.kind === 'gone') this.#forget(nodeId);
			else if (committed.kind === 'stale') this.#reload(nodeId);
			else if (committed.kind === 'elsewhere') this.#leave(nodeId, ELSEWHERE_AGAIN_MS);
			else {
				judge.written(committed.row, judgement.subjects, nowMs);
				this.#changes += judgement.changes.length;
				const isFirst = this.#kept.size === 0;
				this.#kept.delete(nodeId);
				if (committed.step.kind !== 'breaker') return;
				this.#kept.add(nodeId);
				judge.askAgain(nowMs + BREAKER_AGAIN_MS);
				if (isFirst)
					log.error('too many nodes are in quarantine: this one is not, though it is UNHEALTHY', {
						node: nodeId,
						of: committed.step.of,
					});
			}
		} catch (error) {
			judge.dueMs = this.#nowMs() + AGAIN_MS;
			log.warn('a verdict was not written; trying again', { node: nodeId, why: messageOf(error) });
		}
	}

	#forgetGone(judge: NodeJudge, kinds: Parameters<NodeJudge['forgetGone']>[1]): boolean {
		const entry = this.#deps.telemetry.directory.get(judge.nodeId);
		// In other hands the newest inventory is somebody else's word.
		if (entry?.identities === undefined || entry.node.custody !== 'platform') return false;
		return judge.forgetGone(entry.identities, kinds, this.#nowMs());
	}
}

interface Stored {
	readonly id: string;
	readonly row: NodeHealthRow | undefined;
	readonly recorded: Recorded;
	readonly isElsewhere: boolean;
}

/** After a restart: what came since the row was written, and again all that was claimed, which no row holds. */
function* recordsOf(tx: Tx, nodeId: string, row: NodeHealthRow | undefined): Plan<Recorded> {
	const recorded = yield* recordsAfter(tx, nodeId, row?.factId ?? '', row?.evidenceId ?? '');
	if (row === undefined || row.claimed === '') return recorded;
	const all = yield* recordsAfter(tx, nodeId, '', recorded.evidenceId);
	const claims = all.observations.filter(({ custody }) => custody !== 'platform');
	const ours = recorded.observations.filter(({ custody }) => custody === 'platform');
	return { ...recorded, observations: [...claims, ...ours].sort((left, right) => left.atMs - right.atMs) };
}

function take(from: Set<string>, max: number): readonly string[] {
	const taken: string[] = [];
	for (const id of from) {
		if (taken.length >= max) break;
		taken.push(id);
	}
	for (const id of taken) from.delete(id);
	return taken;
}
