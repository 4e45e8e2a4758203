import { type RawBuilder, sql } from 'kysely';
import type { Visibility } from '../port/scopes.ts';
import type { Compiler } from './compiler.ts';
import { subtree } from './subtree.ts';

/**
 * The one visibility predicate, in SQL. What `decide` answers for one object by looking its path up among the caller's
 * bindings, this answers for rows, from the same grants and denials: so a list is exactly what may be got.
 */

/** JSON text [[from, below], ...] for the ranges of `visiblePath`. */
export function rangesOf(paths: readonly string[]): string {
	return JSON.stringify(paths.map(subtree));
}

/** SQL text with two `?` (ranges of grants, of denials): whether the path in `column` lies in a grant and in no denial. */
export function visiblePath(compiler: Compiler, column: string): string {
	const within = () => {
		const each = compiler.dialect === 'sqlite' ? 'json_each(?)' : 'jsonb_array_elements(?::jsonb)';
		return `exists (select 1 from ${each} where ${column} >= value ->> 0 and ${column} < value ->> 1)`;
	};
	return `${within()} and not ${within()}`;
}

/** The form of a query that filters rows by project: part of its shape. */
export type VisibilityShape = 'all' | 'projects' | 'projects+deleted' | 'projects+deleted+unowned';

export function visibilityShape(visibility: Visibility): VisibilityShape {
	if (visibility.all) return 'all';
	if (!visibility.deleted) return 'projects';
	return visibility.unowned ? 'projects+deleted+unowned' : 'projects+deleted';
}

/** JSON text {grants, denials}: the one parameter of `inVisible`. */
export function visibilityText(visibility: Visibility): string {
	if (visibility.all) return '{}';
	return `{"grants":${rangesOf(visibility.grants)},"denials":${rangesOf(visibility.denials)}}`;
}

/**
 * Whether (organization, project) is a project that the caller may see; `text` is a slot with `visibilityText`. The
 * projects are looked up once a query, not once a row. Rows of no project are a matter of `unowned` and not asked here.
 */
export function inVisible(
	compiler: Compiler,
	[organization, project]: readonly [organization: string, project: string],
	shape: VisibilityShape,
	text: string,
): RawBuilder<boolean> {
	const each = (key: 'grants' | 'denials') =>
		compiler.dialect === 'sqlite'
			? sql`json_each(${text}, ${sql.lit(`$.${key}`)})`
			: sql`jsonb_array_elements(${text}::jsonb -> ${sql.lit(key)})`;
	const inside = sql`visible.path >= value ->> 0 and visible.path < value ->> 1`;
	const alive = shape === 'projects' ? sql`and visible.state <> 'deleted'` : sql``;
	return sql<boolean>`(${sql.ref(organization)}, ${sql.ref(project)}) in (
		select visible.organization, visible.id from scopes as visible where visible.kind = 'project' ${alive}
		and exists (select 1 from ${each('grants')} where ${inside})
		and not exists (select 1 from ${each('denials')} where ${inside}))`;
}
