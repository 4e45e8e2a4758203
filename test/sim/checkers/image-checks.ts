import type { History } from '../history.ts';
import type { Image, NodeRecord, TaskRecord } from './image.ts';

/** What must hold in every committed state, also in the middle of a disaster. */
export function checkImage(history: History, image: Image, before: Image | undefined): void {
	checkAcknowledged(history, image);
	for (const { kind, counted, there } of image.miscounted)
		history.violate('quotas-count-what-is-open', `${there} ${kind} are open, and ${counted} are counted`);
	if (before !== undefined) checkCounters(history, image, before);
}

const OPEN: ReadonlySet<string> = new Set(['queued', 'leased', 'running', 'cancelling']);

export function isOpen(task: TaskRecord): boolean {
	return OPEN.has(task.state);
}

function checkAcknowledged(history: History, image: Image): void {
	for (const [taskId, { requestId }] of history.created) {
		if (!image.tasks.has(taskId))
			history.violate('nothing-acknowledged-is-lost', `task ${taskId} (${requestId}) was acknowledged and is gone`);
	}
	const nodeByName = new Map([...image.nodes.values()].map((node) => [node.name, node]));
	for (const [name, acked] of history.factAcks) {
		const factSeq = nodeByName.get(name)?.fact_seq ?? 0;
		if (BigInt(factSeq) < acked) {
			const message = `${name} was told that fact ${acked} is committed, and ${factSeq} is the newest that is`;
			history.violate('nothing-acknowledged-is-lost', message);
		}
		for (let seq = 1n; seq <= acked; seq += 1n) checkReflected(history, image, name, seq);
	}
}

function checkReflected(history: History, image: Image, name: string, seq: bigint): void {
	const fact = history.facts.get(`${name}/${seq}`)?.fact;
	if (fact === undefined) return;
	const missing = (what: string) =>
		history.violate(
			'nothing-acknowledged-is-lost',
			`fact ${seq} of ${name} (${fact.case}) is acknowledged, but ${what}`,
		);
	if (fact.case === 'taskFinished') {
		const { taskId, attempt, receipt } = fact.value;
		const stored = image.documents.get(`${taskId}/${attempt}`)?.receipt;
		const payload = Buffer.from(receipt?.payload ?? []);
		if (!stored || !Buffer.from(stored).includes(payload)) missing('its receipt is not stored');
		const task = image.tasks.get(taskId);
		if (task === undefined || isOpen(task)) missing(`its task is ${task?.state ?? 'gone'}`);
	} else if (fact.case === 'taskStarted') {
		if (image.tasks.get(fact.value.taskId)?.started_at_ms === null) missing('its task has not started');
	} else if (fact.case === 'taskRefused') {
		const task = image.tasks.get(fact.value.taskId);
		if (task !== undefined && task.state !== 'queued' && isOpen(task) && task.attempt === fact.value.attempt)
			missing(`its task is still ${task.state}`);
	}
}

const NODE_COUNTERS: readonly (keyof NodeRecord)[] = ['epoch', 'fencing_seq', 'fact_seq', 'generation', 'renewal_seq'];
const TASK_COUNTERS: readonly (keyof TaskRecord)[] = ['attempt', 'fencing_token'];

function checkCounters(history: History, image: Image, before: Image): void {
	const compare = <R extends object>(what: string, now: R | undefined, then: R, rising: readonly (keyof R)[]) => {
		for (const counter of rising) {
			if (now === undefined || Number(now[counter]) >= Number(then[counter])) continue;
			const message = `${String(counter)} of ${what} went from ${String(then[counter])} to ${String(now[counter])}`;
			history.violate('nothing-goes-back', message);
		}
	};
	const counters = NODE_COUNTERS.filter((counter) => counter !== 'fact_seq' || history.journalsLost === 0);
	for (const [id, then] of before.nodes) compare(`node ${then.name}`, image.nodes.get(id), then, counters);
	for (const [id, then] of before.tasks) {
		const now = image.tasks.get(id);
		compare(`task ${id}`, now, then, TASK_COUNTERS);
		if (now !== undefined && !isOpen(then) && then.state !== 'lost' && now.state !== then.state)
			history.violate('nothing-goes-back', `task ${id} went from ${then.state} to ${now.state}`);
	}
	for (const [nodeId, { epoch }] of before.sessions) {
		const now = image.sessions.get(nodeId);
		if (now !== undefined && now.epoch < epoch)
			history.violate('nothing-goes-back', `the session of ${nodeId} went from epoch ${epoch} to ${now.epoch}`);
	}
	if (image.leaves.length < before.leaves.length || image.chain.length < before.chain.length)
		history.violate('audit-intact', 'the audit log became shorter');
}
