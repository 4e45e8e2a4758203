import { every, type Timer } from '../../kit/clock.ts';
import { GpuaasError } from '../../kit/error.ts';
import { uuidv7 } from '../../kit/ids.ts';
import type { AppendAudit } from '../app/audit/event.ts';
import type { AppDeps } from '../app/deps.ts';
import { decodeDrain, encodeDrain, endDrain } from '../app/operations/drain-operation.ts';
import { prepareStop, stopTasks } from '../app/tasks/stop-tasks.ts';
import { endTerminal } from '../app/terminals/end.ts';
import { type RequestContext, systemContext } from '../context.ts';
import type { OperationRow } from '../store/port/operations.ts';
import type { Tx } from '../store/port/store.ts';
import { TASK_STATES_OPEN, type TaskRow } from '../store/port/tasks.ts';
import type { TerminalRow } from '../store/port/terminals.ts';
import type { Plan } from '../store/port/unit.ts';

/**
 * Carries every running drain one step on: waits for the node's open tasks and terminals, past the deadline tells them to
 * stop, and ends when none is left. Takes no input and keeps nothing: every step is in the operation's row before its side
 * effects, so it may be run twice, or on two replicas, or after a crash. main.ts runs it every few seconds and at the
 * hints `operations.started` and `tasks.changed`. The node is left cordoned.
 */
const OPERATIONS_PER_RUN_MAX = 1000;
const DRAIN_PERIOD_MS = 2000;

export interface DrainDeps extends AppDeps {
	readonly appendAudit: AppendAudit;
}

/** How many drains are running. */
export async function advanceDrains(deps: DrainDeps): Promise<number> {
	const running = await deps.store.read((tx) => tx.operations.listRunning(OPERATIONS_PER_RUN_MAX));
	const drains = running.filter(({ kind }) => kind === 'nodes.drain');
	for (const operation of drains) {
		const ctx = systemContext('workflow/drain', deps.clock, deps.log, uuidv7(deps.clock.now(), deps.rng));
		try {
			await advance(deps, ctx, operation);
		} catch (error) {
			// One node's trouble must not keep the others waiting; the next run tries it again.
			ctx.log.warn('a drain could not go on', { operation: operation.id, error: GpuaasError.from(error) });
		}
	}
	return drains.length;
}

async function advance(deps: DrainDeps, ctx: RequestContext, operation: OperationRow): Promise<void> {
	const nowMs = deps.clock.now();
	const { tasks, terminals } = await deps.store.read(function* (tx) {
		const open = yield* tx.terminals.listOpen(operation.target, '', deps.limits.terminalsOpenPerNodeMax);
		return { tasks: yield* openTasks(deps, tx, operation.target), terminals: open };
	});
	if (tasks.length === 0 && terminals.length === 0) {
		await finish(deps, ctx, operation, nowMs);
		return;
	}
	if (nowMs < operation.deadlineMs) {
		const progress = `no new work is taken; ${stillOpen(tasks, terminals)} may end until the deadline`;
		if (progress !== operation.progress)
			await deps.store.unit((tx) => tx.operations.update(operation.id, { progress }));
		return;
	}
	for (const row of terminals)
		await endTerminal(deps, row, 'NODE_DRAINING', 'the drain of its node reached its deadline');
	if (tasks.length > 0) await stop(deps, ctx, operation, tasks, nowMs);
	else await finish(deps, ctx, operation, nowMs);
}

function stillOpen(tasks: readonly TaskRow[], terminals: readonly TerminalRow[]): string {
	const attended = terminals.length === 0 ? '' : ` and ${terminals.length} terminals`;
	return `${tasks.length} open tasks${attended}`;
}

/** Again with each run past the deadline: what was queued, or claimed, since the last one must be stopped too. */
async function stop(
	deps: DrainDeps,
	ctx: RequestContext,
	operation: OperationRow,
	open: readonly TaskRow[],
	nowMs: number,
): Promise<void> {
	const data = decodeDrain(operation);
	const unstopped = open.filter((task) => task.state !== 'cancelling');
	if (data.cancelled && unstopped.length === 0) return;
	const endings = await prepareStop(deps, unstopped, {
		state: 'cancelled',
		reason: 'NODE_DRAINING',
		message: 'the drain of its node reached its deadline while it waited; nothing was started',
	});
	const stopped = await deps.store.unit(function* (tx) {
		const progress = `the deadline has passed: ${open.length} tasks were told to stop`;
		const changed = yield* tx.operations.update(operation.id, {
			progress,
			data: encodeDrain({ ...data, cancelled: true }),
		});
		if (changed === undefined) return undefined;
		const result = yield* stopTasks(tx, unstopped, endings, nowMs);
		yield* record(deps, tx, ctx, operation, 'nodes.drain.stop', {
			ended: result.ended.length,
			cancelling: result.cancelling.length,
		});
		return result;
	});
	if (stopped === undefined) return;
	for (const hint of stopped.events) deps.bus.publish(hint);
	stopped.send(deps, 'NODE_DRAINING');
}

async function finish(deps: DrainDeps, ctx: RequestContext, operation: OperationRow, nowMs: number): Promise<void> {
	const ended = await deps.store.unit(function* (tx) {
		// Something may have been opened since the look outside: a drain never ends beside open work.
		if ((yield* tx.tasks.countOpen(operation.target)) > 0) return false;
		if ((yield* tx.terminals.countOpen(operation.target)) > 0) return false;
		const current = yield* tx.operations.get(operation.id);
		if (current?.state !== 'running') return false;
		const progress = 'nothing runs on the node; it stays cordoned until somebody uncordons it';
		yield* endDrain(tx, current, 'succeeded', progress, nowMs);
		yield* record(deps, tx, ctx, operation, 'nodes.drain.finish', {});
		yield* tx.outbox.append({
			id: uuidv7(nowMs, deps.rng),
			topic: 'nodes.changed',
			key: operation.target,
			atMs: nowMs,
		});
		return true;
	});
	if (ended) deps.bus.publish({ topic: 'nodes.changed', key: operation.target });
}

function openTasks(deps: DrainDeps, tx: Tx, nodeId: string): Plan<readonly TaskRow[]> {
	const limit = deps.limits.tasksOpenPerNodeMax;
	return tx.tasks.list({
		afterId: '',
		limit,
		nodeId,
		states: TASK_STATES_OPEN,
		batchId: null,
		visibility: { all: true },
	});
}

function record(
	deps: DrainDeps,
	tx: Tx,
	ctx: RequestContext,
	operation: OperationRow,
	action: string,
	detail: Readonly<Record<string, number>>,
): Plan<string> {
	return deps.appendAudit(tx, ctx, {
		action,
		target: `nodes/${operation.target}`,
		result: 'ok',
		reason: '',
		detail: { operation: operation.id, ...detail },
	});
}

/** Runs the drains of this replica: at hints and every few seconds, never twice at once. */
export class DrainRunner implements AsyncDisposable {
	readonly #deps: DrainDeps;
	readonly #unsubscribe: readonly (() => void)[];
	readonly #timer: Timer;
	#running: Promise<void> | undefined;
	#again = false;
	/** Drains at the last look. */
	#drains = 0;

	constructor(deps: DrainDeps) {
		this.#deps = deps;
		const wake = () => this.wake();
		// Tasks change thousands of times a second; without a drain that is nobody's business here.
		const onWork = () => this.#drains > 0 && this.wake();
		this.#unsubscribe = [
			deps.bus.subscribe('operations.started', wake),
			deps.bus.subscribe('tasks.changed', onWork),
			deps.bus.subscribe('terminals.changed', onWork),
		];
		this.#timer = every(deps.clock, DRAIN_PERIOD_MS, wake, () => {});
		this.wake();
	}

	wake(): void {
		this.#again = true;
		this.#running ??= this.#run().finally(() => {
			this.#running = undefined;
		});
	}

	async [Symbol.asyncDispose](): Promise<void> {
		for (const unsubscribe of this.#unsubscribe) unsubscribe();
		this.#timer.cancel();
		this.#again = false;
		await this.#running;
	}

	async #run(): Promise<void> {
		while (this.#again) {
			this.#again = false;
			try {
				this.#drains = await advanceDrains(this.#deps);
			} catch (error) {
				this.#deps.log.warn('drains could not be looked at', { error: GpuaasError.from(error) });
			}
		}
	}
}
