import type { ScopePatch, ScopeRow, Scopes, Visibility } from '../port/scopes.ts';
import type { Compiler } from './compiler.ts';
import { SCOPES } from './iam-schema.ts';
import { raiseEpoch } from './policy-epoch.ts';
import { subtree } from './subtree.ts';
import { rangesOf, visiblePath } from './visibility.ts';

const ALIVE = `state <> 'deleted'`;

export function scopesTable(compiler: Compiler): Scopes {
	return { ...lookups(compiler), ...lists(compiler), ...changes(compiler) };
}

function lookups(
	compiler: Compiler,
): Pick<Scopes, 'get' | 'getMany' | 'atPaths' | 'countBelow' | 'findBySkeleton' | 'namesIn' | 'countIn'> {
	const byName = compiler.selectLocked(SCOPES, 'where name = ?');
	const byNames = compiler.select(SCOPES, `where ${compiler.inListText('name')}`);
	const atPaths = compiler.select(SCOPES, `where ${compiler.inListText('path')}`);
	const bySkeleton = compiler.select(SCOPES, `where parent = ? and kind = ? and skeleton = ? and ${ALIVE}`);
	const namesIn = compiler.statement(`select name from scopes where path >= ? and path < ? and ${ALIVE} order by path`);
	const inside = `select name from scopes where path >= ? and path < ? and ${ALIVE}`;
	const counts = [
		`select count(*) as count from scopes where path >= ? and path < ? and ${ALIVE}`,
		`select count(*) as count from principals where deleted_at_ms is null and home in (${inside})`,
		`select count(*) as count from bindings where scope in (${inside})`,
		`select count(*) as count from assignments where until_ms is null and (organization, project) in (
			select organization, id from scopes where kind = 'project' and path >= ? and path < ?)`,
	].map((text) => compiler.statement(text));
	const countBelow = compiler.statement(
		`select count(*) as count from scopes where path > ? and path < ? and ${ALIVE}`,
	);
	return {
		*get(name) {
			return SCOPES.first(yield byName(name));
		},
		*getMany(names) {
			return names.length === 0 ? [] : SCOPES.all(yield byNames(names));
		},
		*atPaths(paths) {
			return SCOPES.all(yield atPaths(paths));
		},
		*findBySkeleton(parent, kind, skeleton) {
			return SCOPES.first(yield bySkeleton(parent, kind, skeleton));
		},
		*namesIn(path) {
			return (yield namesIn(...subtree(path))).rows.map(({ name }) => String(name));
		},
		*countIn(path) {
			const found: number[] = [];
			for (const count of counts) found.push(Number((yield count(...subtree(path))).rows[0]?.count));
			const [scopes = 0, principals = 0, bindings = 0, openAssignments = 0] = found;
			return { scopes, principals, bindings, openAssignments };
		},
		*countBelow(path) {
			return Number((yield countBelow(...subtree(path))).rows[0]?.count);
		},
	};
}

function lists(compiler: Compiler): Pick<Scopes, 'list' | 'listBelow' | 'listDeletionsDue'> {
	const below = compiler.select(SCOPES, `where path > ? and path < ? and ${ALIVE} order by path limit ?`);
	const due = compiler.select(SCOPES, `where state = 'deleting' and delete_at_ms <= ? order by delete_at_ms limit ?`);
	const visible = visiblePath(compiler, 'scopes.path');
	const listShape = (shape: string) => {
		const conditions = ['name > ?', ALIVE];
		if (shape.includes('o')) conditions.push('organization = ?');
		if (shape.includes('p')) conditions.push('parent = ?');
		if (shape.includes('k')) conditions.push(compiler.inListText('kind'));
		if (shape.includes('v')) conditions.push(visible);
		return compiler.select(SCOPES, `where ${conditions.join(' and ')} order by name limit ?`);
	};
	const shapes = new Map<string, ReturnType<typeof listShape>>();
	return {
		*list({ afterId, limit, visibility, organization, parent, kinds }) {
			const values: unknown[] = [afterId];
			if (organization !== null) values.push(organization);
			if (parent !== null) values.push(parent);
			if (kinds.length > 0) values.push(kinds);
			if (!visibility.all) values.push(...rangeValues(visibility));
			const shape = `${organization === null ? '' : 'o'}${parent === null ? '' : 'p'}${kinds.length > 0 ? 'k' : ''}${visibility.all ? '' : 'v'}`;
			const statement = shapes.get(shape) ?? listShape(shape);
			shapes.set(shape, statement);
			return SCOPES.all(yield statement(...values, limit));
		},
		*listBelow(path, limit) {
			return SCOPES.all(yield below(...subtree(path), limit));
		},
		*listDeletionsDue(nowMs, limit) {
			return SCOPES.all(yield due(nowMs, limit));
		},
	};
}

function rangeValues(visibility: Visibility & { readonly all: false }): readonly string[] {
	return [rangesOf(visibility.grants), rangesOf(visibility.denials)];
}

function changes(compiler: Compiler): Pick<Scopes, 'insert' | 'update' | 'movePaths' | 'markDeleted'> {
	const insert = compiler.insert(SCOPES);
	const raise = raiseEpoch(compiler);
	const markDeleted = compiler.statement(
		`update scopes set state = 'deleted', version = version + 1 where path >= ? and path < ? and ${ALIVE}`,
	);
	// One statement: paths are unique, and no two of them are ever exchanged.
	const move = compiler.statement(
		`update scopes set path = ${compiler.dialect === 'sqlite' ? '?' : '?::text'} || substr(path, ${compiler.dialect === 'sqlite' ? '?' : '?::int'}) where path > ? and path < ?`,
	);
	return {
		*insert(row: ScopeRow) {
			yield insert(row);
			yield* raise();
		},
		*update(name: string, patch: ScopePatch, ifVersion?: number) {
			const conditions = ifVersion === undefined ? [] : [{ sql: 'version = ?', value: ifVersion }];
			const changed = yield* compiler.patch<ScopeRow>(
				SCOPES,
				['name', name],
				patch,
				conditions,
				'version = version + 1',
			);
			if (changed !== undefined) yield* raise();
			return changed;
		},
		*markDeleted(path) {
			yield markDeleted(...subtree(path));
			yield* raise();
		},
		*movePaths(fromPath, toPath) {
			yield move(toPath, fromPath.length + 1, ...subtree(fromPath));
			yield* raise();
		},
	};
}
