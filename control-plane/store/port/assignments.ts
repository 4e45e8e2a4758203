import type { ProjectRef } from './nodes.ts';
import type { Plan } from './unit.ts';

export type AssignmentMode = 'host' | 'slice' | 'operator';

/** How a tenant gets at a node. At most one open row per node or slice (unique partial index). */
export interface AssignmentRow extends ProjectRef {
	readonly id: string;
	readonly nodeId: string;
	/** Empty for the whole node. */
	readonly sliceId: string;
	readonly mode: AssignmentMode;
	readonly generation: number;
	readonly fromMs: number;
	readonly untilMs: number | null;
}

export interface Assignments {
	/** Throws ALREADY_EXISTS when one is open. */
	insert(row: AssignmentRow): Plan<void>;
	get(id: string): Plan<AssignmentRow | undefined>;
	openOfNode(nodeId: string): Plan<AssignmentRow | undefined>;
	openOfNodes(nodeIds: readonly string[]): Plan<readonly AssignmentRow[]>;
	/** Of nodes and slices, by node; at most `limit`. */
	openOfProject(project: ProjectRef, limit: number): Plan<readonly AssignmentRow[]>;
	/** Of the node and its slices, open or ended, that touch the half-open span; newest first, at most `limit`. */
	ofNodeDuring(nodeId: string, fromMs: number, untilMs: number, limit: number): Plan<readonly AssignmentRow[]>;
	/** The closed row, or undefined when it wasn't open. */
	close(id: string, untilMs: number): Plan<AssignmentRow | undefined>;
}
