import { GpuaasError } from '../../../kit/error.ts';
import type { AssignmentRow } from '../../store/port/assignments.ts';
import { type CallerView, viewOfAssignments } from './caller-view.ts';
import type { NodeDirectory, NodeEntry } from './directory.ts';
import type { Family, NameSet, Position } from './families.ts';
import {
	ageInfo,
	assignmentInfo,
	gpuInfo,
	type InfoFamily,
	nodeInfo,
	ofNode,
	simulatedInfo,
	sliceInfo,
} from './info-families.ts';
import type { Labels } from './labels.ts';
import type { LatestTelemetry } from './latest.ts';
import { exportedSample } from './old-values.ts';
import { measuredAtMs, type NodeSample, PARTS, type Row, shownPart } from './sample.ts';
import { type SeriesVisitor, walkSeries } from './series.ts';
import { headerOf, infoHeader, infoLines, labelText, seriesLine } from './series-text.ts';
import { withOwnXid } from './tenant-xid.ts';

/**
 * The page of a project: what its nodes measure now, clipped to its open assignments, by the names and labels of the
 * operator's pages. A node that is silent here has nothing but `gpuaas_node_telemetry_fresh` 0, so that its series end
 * rather than stand still: one page has many nodes, so `up` can't tell. What a tenant may not know of its hosts is not on
 * it: serials, counts and XIDs from before its time, other tenants' slices.
 */
export interface PageSources {
	readonly directory: Pick<NodeDirectory, 'get'>;
	readonly latest: Pick<LatestTelemetry, 'fresh' | 'ageMs'>;
}

export interface PageOptions {
	readonly names: ReadonlySet<NameSet>;
	readonly charactersMax: number;
}

export interface ProjectPage {
	readonly text: string;
	readonly nodes: number;
	/** Of them, those of which nothing new came to this replica. */
	readonly silent: number;
}

/** `assignments`: open ones of one project. Gives back one node at a time, so that other work comes in between. */
export function* projectPage(
	{ directory, latest }: PageSources,
	assignments: readonly AssignmentRow[],
	options: PageOptions,
): Generator<undefined, ProjectPage> {
	const page = new FamilyPage(options.charactersMax);
	const byNode = Map.groupBy(assignments, ({ nodeId }) => nodeId);
	let silent = 0;
	for (const [nodeId, own] of byNode) {
		const entry = directory.get(nodeId);
		const found = latest.fresh(nodeId);
		const sample = found && clippedSample(found, viewOfAssignments(own));
		// What came before the assignment is nobody's business: until something comes, the node is silent.
		const isFresh = sample !== undefined && PARTS.some((part) => sample.rows[part].length > 0);
		page.info(freshInfo(nodeId, entry, isFresh));
		if (isFresh) addNode(page, entry, sample, latest.ageMs(found ?? sample), own, options);
		else silent += 1;
		yield;
	}
	return { text: page.text(), nodes: byNode.size, silent };
}

function addNode(
	page: FamilyPage,
	entry: NodeEntry | undefined,
	sample: NodeSample,
	ageMs: number,
	own: readonly AssignmentRow[],
	{ names }: PageOptions,
): void {
	walkSeries(entry, exportedSample(sample), { names, hostnameLabel: 'Hostname' }, page);
	if (!names.has('gpuaas')) return;
	page.info(ageInfo(sample, ageMs));
	page.info(simulatedInfo(sample));
	if (entry === undefined) return;
	const clipped = clippedEntry(entry, own);
	page.info(nodeInfo(clipped, sample));
	page.info(gpuInfo(clipped, sample));
	page.info(sliceInfo(clipped));
	page.info(assignmentInfo(clipped, true));
}

function freshInfo(nodeId: string, entry: NodeEntry | undefined, isFresh: boolean): InfoFamily {
	const help = 'Whether this page has a new sample of the node; 0: the replica that made it has heard nothing lately.';
	const labels: Labels = [['name', entry?.node.name ?? '']];
	return ofNode('gpuaas_node_telemetry_fresh', 'gauge', help, nodeId, isFresh ? 1 : 0, labels);
}

function clippedSample(sample: NodeSample, view: CallerView): NodeSample {
	const rows = {} as Record<(typeof PARTS)[number], readonly Row[]>;
	for (const part of PARTS) {
		const atMs = measuredAtMs(sample, part);
		const own = sample.rows[part].filter(({ id }) => view.sees(shownPart(part), id, atMs));
		rows[part] = own.map((row) => withOwnXid(sample, part, row, view));
	}
	return { ...sample, rows };
}

/** Without serials, which are for whoever may see the inventory. */
function clippedEntry(entry: NodeEntry, own: readonly AssignmentRow[]): NodeEntry {
	const { identities } = entry;
	if (identities === undefined) return { ...entry, assignments: own };
	const isWhole = own.some(({ sliceId }) => sliceId === '');
	const gpus = isWhole ? [...identities.gpus].map(([uuid, gpu]) => [uuid, { ...gpu, serial: '' }] as const) : [];
	const slices = [...identities.slices].filter(([uuid]) => isWhole || own.some(({ sliceId }) => sliceId === uuid));
	return { ...entry, assignments: own, identities: { ...identities, gpus: new Map(gpus), slices: new Map(slices) } };
}

/** Of several nodes: a family's samples follow its header without a gap, whichever node they are of. */
class FamilyPage implements SeriesVisitor<string> {
	readonly #families = new Map<string, { readonly header: string; lines: string }>();
	readonly #charactersMax: number;
	#characters = 0;

	constructor(charactersMax: number) {
		this.#charactersMax = charactersMax;
	}

	labels(labels: Labels): string {
		return labelText(labels);
	}

	family(family: Family): void {
		if (!this.#families.has(family.name)) this.#begin(family.name, headerOf(family));
	}

	series(family: Family, position: Position, row: string, value: number, more: Labels): void {
		this.#add(family.name, seriesLine(family, position, row, value, more));
	}

	info(family: InfoFamily): void {
		if (family.series.length === 0) return;
		if (!this.#families.has(family.name)) this.#begin(family.name, infoHeader(family));
		this.#add(family.name, infoLines(family));
	}

	text(): string {
		let text = '';
		for (const { header, lines } of this.#families.values()) text += header + lines;
		return text;
	}

	#begin(name: string, header: string): void {
		this.#families.set(name, { header, lines: '' });
		this.#count(header);
	}

	#add(name: string, lines: string): void {
		const family = this.#families.get(name);
		if (family !== undefined) family.lines += lines;
		this.#count(lines);
	}

	#count(text: string): void {
		this.#characters += text.length;
		if (this.#characters > this.#charactersMax) throw tooLarge(this.#charactersMax);
	}
}

function tooLarge(charactersMax: number): GpuaasError {
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'TELEMETRY_PAGE_TOO_LARGE',
		message: `the page of this project has more than ${charactersMax} characters; ask for it in parts (shard=0&of=4, then 1, 2 and 3, each a target of its own), or for one spelling of names (names=dcgm)`,
	});
}
