import type { TelemetryPart } from '../../../proto/telemetry-schema/schemas.ts';
import type { AssignmentRow } from '../../store/port/assignments.ts';
import type { Visibility } from '../../store/port/scopes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { holds, permissionBit } from '../iam/permissions.ts';
import type { CallContext } from '../iam/principal.ts';
import { projectName } from '../iam/resource-name.ts';
import type { TargetOf } from '../iam/target.ts';

/**
 * What of a node's telemetry somebody may see. The platform sees all of it. A project sees a node from the beginning of
 * its assignment to its end: what another tenant's work looked like before is none of its business; and where it has
 * slices only those, because the host and its neighbours would tell about others.
 */
export interface CallerView {
	/**
	 * Whether something of this thing, measured at this moment (our wall clock), may be seen; with `lengthMs`, something
	 * that sums up the time from that moment on: all of that time must have been the caller's.
	 */
	sees(part: TelemetryPart, id: string, atMs: number, lengthMs?: number): boolean;
}

export const SEES_ALL: CallerView = Object.freeze({ sees: () => true });

/** Assignments of one project on one node that are looked at: a node changes hands a few times a day at most. */
const ASSIGNMENTS_MAX = 500;

export function isPlatform(ctx: CallContext, permission: string): boolean {
	return holds(ctx.actor.access.platform, permissionBit(permission));
}

export function viewOfAssignments(assignments: readonly AssignmentRow[]): CallerView {
	return {
		sees: (part, id, atMs, lengthMs = 0) =>
			assignments.some(
				({ sliceId, fromMs, untilMs }) =>
					atMs >= fromMs &&
					(untilMs === null || (atMs < untilMs && atMs + lengthMs <= untilMs)) &&
					(sliceId === '' || (part === 'slice' && id === sliceId)),
			),
	};
}

/** Of the open assignment that made the caller see the node. */
export function currentView(ctx: CallContext, permission: string, { assignment }: TargetOf['node']): CallerView {
	if (isPlatform(ctx, permission)) return SEES_ALL;
	return viewOfAssignments(assignment === undefined ? [] : [assignment]);
}

/** Of all the time in a span that the same project had the node. */
export function* viewDuring(
	tx: Tx,
	ctx: CallContext,
	permission: string,
	{ node, assignment }: TargetOf['node'],
	fromMs: number,
	untilMs: number,
): Plan<CallerView> {
	if (isPlatform(ctx, permission)) return SEES_ALL;
	const all = yield* tx.assignments.ofNodeDuring(node.id, fromMs, untilMs, ASSIGNMENTS_MAX);
	return viewOfAssignments(
		all.filter(
			({ organization, project }) => organization === assignment?.organization && project === assignment.project,
		),
	);
}

/** Of each of these nodes, for a list. */
export function* viewsOfNodes(
	tx: Tx,
	visibility: Visibility,
	nodeIds: readonly string[],
): Plan<ReadonlyMap<string, CallerView>> {
	if (visibility.all || visibility.unowned) return new Map(nodeIds.map((id) => [id, SEES_ALL]));
	const open = yield* tx.assignments.openOfNodes(nodeIds);
	const scopes = yield* tx.scopes.getMany([...new Set(open.map(projectName))]);
	const paths = new Map(scopes.map(({ name, path }) => [name, path]));
	const isBelow = (path: string, ancestors: readonly string[]) =>
		ancestors.some((ancestor) => path.startsWith(ancestor));
	const seen = open.filter((assignment) => {
		const path = paths.get(projectName(assignment));
		return path !== undefined && isBelow(path, visibility.grants) && !isBelow(path, visibility.denials);
	});
	const byNode = Map.groupBy(seen, ({ nodeId }) => nodeId);
	return new Map(nodeIds.map((id) => [id, viewOfAssignments(byNode.get(id) ?? [])]));
}
