import { every, type Timer } from '../../kit/clock.ts';
import type { PolicyCache } from '../app/iam/policy-view.ts';
import { KEY_LEAKED } from '../app/keys/report-leaked.ts';
import { attendance } from '../app/terminals/attendance.ts';
import { type EndDeps, endTerminal } from '../app/terminals/end.ts';
import { EndJudge, type WhyEnd } from '../app/terminals/why-end.ts';
import type { SessionRow } from '../store/port/sessions.ts';
import type { Tx } from '../store/port/store.ts';
import type { TerminalRow } from '../store/port/terminals.ts';
import type { Plan } from '../store/port/unit.ts';

/**
 * Ends the terminals that may not go on: their opener was disabled or lost the role, the node was locked or handed
 * over, the assignment ended, nobody is attached, nobody types, or they have been open for too long. Takes no input;
 * looks at every hint and twice a second, so that a lock ends them within a second also when its hint is lost. A relay
 * of this replica whose row was closed by another is ended too. It also keeps since when nobody is attached, where a
 * replica died that should have. All end before the first is written down: a slow store holds up no lock.
 */
const LOOK_MS = 500;
const PER_READ_MAX = 200;
const TOPICS = ['iam.changed', KEY_LEAKED, 'assignments.ended', 'nodes.changed', 'terminals.changed'] as const;

export interface TerminalReconcilerDeps extends EndDeps {
	readonly policies: PolicyCache;
	readonly replicaId: string;
}

interface Found {
	readonly row: TerminalRow;
	readonly why: WhyEnd | undefined;
	readonly session: SessionRow | undefined;
}

export class TerminalReconciler implements Disposable {
	readonly #deps: TerminalReconcilerDeps;
	readonly #timer: Timer;
	readonly #unsubscribe: readonly (() => void)[];
	#isRunning = false;
	#isDue = false;

	constructor(deps: TerminalReconcilerDeps) {
		this.#deps = deps;
		const { clock, bus, log } = deps;
		this.#timer = every(
			clock,
			LOOK_MS,
			() => this.#wake(),
			(error) => log.error('terminals were not looked at', { error }),
		);
		this.#unsubscribe = TOPICS.map((topic) => bus.subscribe(topic, () => this.#wake()));
	}

	[Symbol.dispose](): void {
		this.#timer.cancel();
		for (const off of this.#unsubscribe) off();
	}

	/** One look at all that are open. */
	async runOnce(): Promise<void> {
		const { terminals } = this.#deps;
		for (const relay of terminals.relays()) relay.tick();
		const open = new Map<string, Found>();
		let afterId = '';
		for (;;) {
			const found = await this.#look(afterId);
			for (const one of found) {
				open.set(one.row.id, one);
				if (one.why !== undefined) terminals.get(one.row.id)?.end(one.why.reason, one.why.message);
			}
			const last = found.at(-1);
			if (found.length < PER_READ_MAX || last === undefined) break;
			afterId = last.row.id;
		}
		await this.#keepAll([...open.values()]);
		await this.#endClosed(open);
	}

	async #look(afterId: string): Promise<readonly Found[]> {
		const { store, clock, terminals, policies } = this.#deps;
		const nowMs = clock.now();
		return await store.read(function* (tx) {
			const judge = new EndJudge(tx, yield* policies.committed(tx), nowMs);
			const rows = yield* tx.terminals.listOpen(null, afterId, PER_READ_MAX);
			const sessions = yield* sessionsOf(tx, rows);
			const found: Found[] = [];
			for (const row of rows) {
				const relay = terminals.get(row.id);
				// Ended here already, and the store did not take it then.
				const why = relay?.ended ?? (yield* judge.judge(row, relay));
				found.push({ row, why, session: sessions.get(row.nodeId) });
			}
			return found;
		});
	}

	/** One that can't be written down holds up no other: the next look tries it again. */
	async #keepAll(found: readonly Found[]): Promise<void> {
		for (let from = 0; from < found.length; from += PER_READ_MAX) {
			const some = found.slice(from, from + PER_READ_MAX);
			await Promise.all(some.map((one) => this.#keep(one).catch((error: unknown) => this.#onUnkept(one.row, error))));
		}
	}

	async #keep({ row, why, session }: Found): Promise<void> {
		const { store, clock, terminals, replicaId } = this.#deps;
		if (why !== undefined) {
			await endTerminal(this.#deps, row, why.reason, why.message);
			return;
		}
		const change = () => attendance(row, { relay: terminals.get(row.id), session, replicaId, nowMs: clock.now() });
		if (change() === undefined) return;
		await store.unit(function* (tx) {
			// Somebody may have come or gone since.
			const patch = change();
			if (patch !== undefined) yield* tx.terminals.update(row.id, patch);
		});
	}

	#onUnkept({ id }: TerminalRow, error: unknown): void {
		this.#deps.log.warn('a terminal’s state was not kept; it is tried again', { terminal: id, error });
	}

	async #endClosed(open: ReadonlyMap<string, Found>): Promise<void> {
		const { store, terminals } = this.#deps;
		for (const relay of terminals.relays()) {
			const { id } = relay.terminal;
			// One that is told to the node, which then says that it has ended, is nobody's here any more.
			if (open.has(id) || relay.isConcluding || (relay.ended !== undefined && relay.isConnected)) continue;
			const row = await store.read((tx) => tx.terminals.get(id));
			if (row?.state !== 'closed' || relay.isConcluding) continue;
			relay.end(row.reason, row.message);
			void relay.endRecording(row.reason).catch((error: unknown) => this.#onUnkept(row, error));
			if (!relay.isConnected) terminals.remove(id);
		}
	}

	#wake(): void {
		this.#isDue = true;
		if (!this.#isRunning) void this.#run();
	}

	async #run(): Promise<void> {
		this.#isRunning = true;
		try {
			while (this.#isDue) {
				this.#isDue = false;
				await this.runOnce();
			}
		} catch (error) {
			this.#deps.log.warn('terminals were not looked at; trying again', { error });
		} finally {
			this.#isRunning = false;
		}
	}
}

function* sessionsOf(tx: Tx, rows: readonly TerminalRow[]): Plan<ReadonlyMap<string, SessionRow>> {
	const nodes = [...new Set(rows.map(({ nodeId }) => nodeId))];
	return new Map((yield* tx.sessions.getMany(nodes)).map((session) => [session.nodeId, session]));
}
