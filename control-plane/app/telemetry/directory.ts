import { type Clock, every, type Timer, yieldTurn } from '../../../kit/clock.ts';
import { messageOf } from '../../../kit/error.ts';
import type { Logger } from '../../../kit/log.ts';
import type { Bus } from '../../bus/bus.ts';
import type { AssignmentRow } from '../../store/port/assignments.ts';
import type { InventoryVersion } from '../../store/port/inventories.ts';
import type { NodeRow } from '../../store/port/nodes.ts';
import type { Store, Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { identitiesOf, type NodeIdentities } from './identities.ts';

/**
 * What telemetry needs to know of each node, in memory, because a frame must not wait for a database: its name, who has
 * custody of it and whom it is assigned to, and what its ids stand for. Read at the start and again when a hint says
 * so; a sweep finds what no hint told, inventories too. It decides nothing: whoever may see what is decided on the store's own rows.
 */
export interface NodeEntry {
	readonly node: Pick<NodeRow, 'id' | 'name' | 'hostname' | 'custody' | 'generation' | 'labels' | 'bootId'>;
	/** Open ones: of the node, or of its slices. */
	readonly assignments: readonly AssignmentRow[];
	/** Undefined until the node's first inventory. */
	readonly identities: NodeIdentities | undefined;
}

export interface DirectoryDeps {
	readonly store: Store;
	readonly bus: Bus;
	readonly clock: Clock;
	readonly log: Logger;
}

const PAGE = 500;
const SWEEP_MS = 30_000;
/** Hints of several topics about one node come together: one look answers them all. */
const SETTLE_MS = 20;
const TOPICS = ['nodes.changed', 'nodes.inventory', 'assignments.ended'];

export class NodeDirectory implements AsyncDisposable {
	readonly #deps: DirectoryDeps;
	readonly #entries = new Map<string, NodeEntry>();
	/** Nodes to be read again: told by hints, found by the sweep, or left over because a reading failed. */
	readonly #dirty = new Set<string>();
	/** Which inventory the identities of each node came from. */
	readonly #versions = new Map<string, string>();
	readonly #listeners = new Set<(nodeId: string) => void>();
	#unsubscribe: readonly (() => void)[] = [];
	#sweep: Timer | undefined;
	#settling: Timer | undefined;
	#working: Promise<void> = Promise.resolve();

	constructor(deps: DirectoryDeps) {
		this.#deps = deps;
	}

	/** Reads all nodes, and follows them from now on. */
	async start(): Promise<void> {
		const { bus, clock, log } = this.#deps;
		const hear = ({ key }: { readonly key: string }) => this.#mark(key);
		this.#unsubscribe = TOPICS.map((topic) => bus.subscribe(topic, hear));
		const onError = (error: unknown) => log.error('the telemetry directory failed', { error });
		this.#sweep = every(clock, SWEEP_MS, () => this.#queue(() => this.#look()), onError);
		// In turn with what hints tell meanwhile: what was read first must not stay over what is newer.
		const read = this.#working.then(() => this.#all(true));
		this.#working = read.catch(() => {});
		await read;
	}

	/** Reads all of them again, inventories too; resolves when they are known. */
	reload(): Promise<void> {
		this.#queue(() => this.#all(true));
		return this.#working;
	}

	/** Undefined: retired, or not read yet. */
	get(nodeId: string): NodeEntry | undefined {
		return this.#entries.get(nodeId);
	}

	entries(): Iterable<NodeEntry> {
		return this.#entries.values();
	}

	get size(): number {
		return this.#entries.size;
	}

	/** Called with each node whose entry was made, changed or removed. Must be quick and must not throw. */
	onChange(listener: (nodeId: string) => void): () => void {
		this.#listeners.add(listener);
		return () => void this.#listeners.delete(listener);
	}

	async [Symbol.asyncDispose](): Promise<void> {
		for (const unsubscribe of this.#unsubscribe) unsubscribe();
		this.#sweep?.cancel();
		this.#settling?.cancel();
		await this.#working;
	}

	#mark(nodeId: string): void {
		this.#dirty.add(nodeId);
		this.#settling ??= this.#deps.clock.setTimer(() => {
			this.#settling = undefined;
			this.#queue(() => this.#dirtyOnes());
		}, SETTLE_MS);
	}

	#queue(work: () => Promise<void>): void {
		this.#working = this.#working.then(work).catch((error: unknown) => {
			// The sweep looks again; until then entries are as they were.
			this.#deps.log.warn('the telemetry directory was not refreshed', { why: messageOf(error) });
		});
	}

	/** The sweep. */
	async #look(): Promise<void> {
		await this.#all(false);
		await this.#dirtyOnes();
	}

	/** A node is off the list only once it was read: what fails here is read with the next hint or sweep. */
	async #dirtyOnes(): Promise<void> {
		while (this.#dirty.size > 0) {
			const page = [...this.#dirty].slice(0, PAGE);
			for (const id of page) this.#dirty.delete(id);
			const read = this.#deps.store.read(function* (tx) {
				const nodes: NodeRow[] = [];
				for (const id of page) {
					const node = yield* tx.nodes.get(id);
					if (node !== undefined && node.retiredAtMs === null) nodes.push(node);
				}
				return yield* entriesOf(tx, nodes, true);
			});
			const found = await read.catch((error: unknown) => {
				for (const id of page) this.#dirty.add(id);
				throw error;
			});
			const entries = new Map(found.map((one) => [one.entry.node.id, one]));
			for (const id of page) this.#set(id, entries.get(id), true);
		}
	}

	async #all(withInventories: boolean): Promise<void> {
		const seen = new Set<string>();
		for (let afterId = ''; ; ) {
			const from = afterId;
			const { nodes, entries } = await this.#deps.store.read(function* (tx) {
				const rows = yield* tx.nodes.list({
					afterId: from,
					limit: PAGE,
					selector: {},
					visibility: { all: true },
					includeRetired: false,
				});
				return { nodes: rows, entries: yield* entriesOf(tx, rows, withInventories) };
			});
			for (const found of entries) {
				const { id } = found.entry.node;
				seen.add(id);
				if (!withInventories && this.#versions.get(id) !== found.version) this.#dirty.add(id);
				this.#set(id, found, withInventories);
			}
			if (nodes.length < PAGE) break;
			afterId = nodes.at(-1)?.id ?? '';
			// Each page takes some milliseconds; a store in this process answers without a turn of the loop.
			await yieldTurn(this.#deps.clock);
		}
		for (const id of [...this.#entries.keys()]) if (!seen.has(id)) this.#set(id, undefined, false);
	}

	/** Without its inventories an entry keeps the identities that it has. */
	#set(nodeId: string, found: Found | undefined, withInventories: boolean): void {
		const before = this.#entries.get(nodeId);
		if (found === undefined) {
			this.#versions.delete(nodeId);
			if (!this.#entries.delete(nodeId)) return;
		} else {
			const { entry, version } = found;
			if (withInventories && version !== undefined) this.#versions.set(nodeId, version);
			const after = withInventories ? entry : { ...entry, identities: before?.identities };
			if (before !== undefined && sameEntry(before, after)) return;
			this.#entries.set(nodeId, Object.freeze(after));
		}
		for (const listener of this.#listeners) listener(nodeId);
	}
}

interface Found {
	readonly entry: NodeEntry;
	/** Of the newest inventory; undefined: there is none. */
	readonly version: string | undefined;
}

function* entriesOf(tx: Tx, nodes: readonly NodeRow[], withInventories: boolean): Plan<readonly Found[]> {
	const ids = nodes.map(({ id }) => id);
	const assignments = Map.groupBy(yield* tx.assignments.openOfNodes(ids), ({ nodeId }) => nodeId);
	const inventories = new Map<string, NodeIdentities>();
	const versions = new Map<string, string>();
	if (withInventories) {
		for (const row of yield* tx.inventories.ofNodes(ids)) {
			if (versions.has(row.nodeId)) continue;
			versions.set(row.nodeId, versionOf(row));
			inventories.set(row.nodeId, identitiesOf(row.inventory));
		}
	} else {
		for (const row of yield* tx.inventories.versionsOfNodes(ids))
			if (!versions.has(row.nodeId)) versions.set(row.nodeId, versionOf(row));
	}
	return nodes.map(({ id, name, hostname, custody, generation, labels, bootId }) => ({
		entry: {
			node: { id, name, hostname, custody, generation, labels, bootId },
			assignments: assignments.get(id) ?? [],
			identities: inventories.get(id),
		},
		version: versions.get(id),
	}));
}

function versionOf({ custody, digest, receivedAtMs }: InventoryVersion): string {
	return `${custody} ${receivedAtMs} ${digest}`;
}

function sameEntry(left: NodeEntry, right: NodeEntry): boolean {
	return (
		left.identities?.digest === right.identities?.digest &&
		JSON.stringify([left.node, left.assignments]) === JSON.stringify([right.node, right.assignments])
	);
}
