import { GpuaasError } from '../../../kit/error.ts';
import type { ScopeRow } from '../../store/port/scopes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';

/** Departments in departments; deeper trees are a sign of an accident, and every decision walks them. */
const DEPARTMENTS_DEEP_MAX = 6;

export function assertDepth(path: string): void {
	// `/acme/d.a/d.b/p.train/`: the organization, its departments, the project.
	if (path.split('/').filter((part) => part.startsWith('d.')).length <= DEPARTMENTS_DEEP_MAX) return;
	throw new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'SCOPE_TOO_DEEP',
		message: `departments nest at most ${DEPARTMENTS_DEEP_MAX} deep; nothing was changed. Choose a parent further up`,
	});
}

/** Names of deleted scopes stay taken: records carry them. */
export function* assertNameFree(tx: Tx, name: string): Plan<void> {
	if ((yield* tx.scopes.get(name)) === undefined) return;
	throw new GpuaasError({
		code: 'ALREADY_EXISTS',
		reason: 'SCOPE_ID_TAKEN',
		message: 'that id is or was in use, and an id is never used again; choose another',
	});
}

export function* assertSkeletonFree(tx: Tx, row: Pick<ScopeRow, 'parent' | 'kind' | 'skeleton' | 'name'>): Plan<void> {
	const like = yield* tx.scopes.findBySkeleton(row.parent ?? '', row.kind, row.skeleton);
	if (like === undefined || like.name === row.name) return;
	throw new GpuaasError({
		code: 'ALREADY_EXISTS',
		reason: 'NAME_CONFUSABLE',
		message: `a ${row.kind} beside it has a display name that looks the same; choose another, so that nobody takes one for the other`,
	});
}
