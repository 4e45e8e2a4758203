import type { Access, BindingRow, GuardrailRow } from '../port/access.ts';
import type { Compiler } from './compiler.ts';
import { BINDINGS, GUARDRAILS } from './iam-schema.ts';
import { raiseEpoch } from './policy-epoch.ts';
import { rolesTable } from './roles.ts';

export function accessTable(compiler: Compiler): Access {
	return {
		...epoch(compiler),
		...bindings(compiler),
		...removals(compiler),
		...rolesTable(compiler),
		...guardrails(compiler),
	};
}

function epoch(compiler: Compiler): Pick<Access, 'policyEpoch' | 'lockPolicy'> {
	const read = compiler.statement('select epoch from policy where id = 1');
	// An update locks on both dialects; it changes nothing, so it raises no epoch.
	const lock = compiler.statement('update policy set epoch = epoch where id = 1');
	return {
		*policyEpoch() {
			return Number((yield read()).rows[0]?.epoch);
		},
		*lockPolicy() {
			yield lock();
		},
	};
}

type Bindings =
	| 'insertBinding'
	| 'getBinding'
	| 'updateBinding'
	| 'listBindings'
	| 'countBindings'
	| 'findBinding'
	| 'listBindingsAt'
	| 'listBindingsOfRole';

function bindings(compiler: Compiler): Pick<Access, Bindings> {
	const insert = compiler.insert(BINDINGS);
	const raise = raiseEpoch(compiler);
	const byId = compiler.selectLocked(BINDINGS, 'where id = ?');
	const ofPrincipals = compiler.select(BINDINGS, `where ${compiler.inListText('principal_id')} order by id`);
	const count = compiler.statement('select count(*) as count from bindings where principal_id = ?');
	const exact = compiler.select(BINDINGS, 'where principal_id = ? and role = ? and scope = ? limit 1');
	const at = compiler.select(BINDINGS, `where ${compiler.inListText('scope')} and id > ? order by id limit ?`);
	const ofRoleAt = compiler.select(BINDINGS, 'where role = ? and scope = ? order by id limit ?');
	const ofRole = compiler.select(BINDINGS, 'where role = ? order by id limit ?');
	return {
		*insertBinding(row: BindingRow) {
			yield insert(row);
			yield* raise();
		},
		*getBinding(id) {
			return BINDINGS.first(yield byId(id));
		},
		*updateBinding(id, patch, ifVersion) {
			const conditions = ifVersion === undefined ? [] : [{ sql: 'version = ?', value: ifVersion }];
			const changed = yield* compiler.patch<BindingRow>(
				BINDINGS,
				['id', id],
				patch,
				conditions,
				'version = version + 1',
			);
			if (changed !== undefined) yield* raise();
			return changed;
		},
		*listBindings(principalIds) {
			return principalIds.length === 0 ? [] : BINDINGS.all(yield ofPrincipals(principalIds));
		},
		*countBindings(principalId) {
			return Number((yield count(principalId)).rows[0]?.count);
		},
		*findBinding(principalId, role, scope) {
			return BINDINGS.first(yield exact(principalId, role, scope));
		},
		*listBindingsAt({ scopes, afterId, limit }) {
			return scopes.length === 0 ? [] : BINDINGS.all(yield at(scopes, afterId, limit));
		},
		*listBindingsOfRole(role, scope, limit) {
			return BINDINGS.all(yield scope === null ? ofRole(role, limit) : ofRoleAt(role, scope, limit));
		},
	};
}

function removals(
	compiler: Compiler,
): Pick<Access, 'deleteBinding' | 'deleteBindingsIn' | 'deleteAllAt' | 'deleteExpiredBindings'> {
	const raise = raiseEpoch(compiler);
	const remove = compiler.statement('delete from bindings where id = ?');
	const removeVersion = compiler.statement('delete from bindings where id = ? and version = ?');
	const removeIn = compiler.statement(
		'delete from bindings where principal_id = ? and scope in (select name from scopes where organization = ?)',
	);
	const removeAt = ['bindings', 'guardrails'].map((table) =>
		compiler.statement(`delete from ${table} where ${compiler.inListText('scope')}`),
	);
	const removeExpired = compiler.statement(
		'delete from bindings where id in (select id from bindings where expires_at_ms < ? order by expires_at_ms limit ?)',
	);
	return {
		*deleteBinding(id, ifVersion) {
			const { changes } = yield ifVersion === undefined ? remove(id) : removeVersion(id, ifVersion);
			if (changes > 0) yield* raise();
			return changes > 0;
		},
		*deleteBindingsIn(organization, principalId) {
			const { changes } = yield removeIn(principalId, organization);
			if (changes > 0) yield* raise();
			return changes;
		},
		*deleteAllAt(scopes) {
			for (const remove of removeAt) yield remove(scopes);
			yield* raise();
		},
		*deleteExpiredBindings(beforeMs, limit) {
			const { changes } = yield removeExpired(beforeMs, limit);
			return changes;
		},
	};
}

type Guardrails = 'insertGuardrail' | 'getGuardrail' | 'deleteGuardrail' | 'listGuardrails' | 'allGuardrails';

function guardrails(compiler: Compiler): Pick<Access, Guardrails> {
	const insert = compiler.insert(GUARDRAILS);
	const raise = raiseEpoch(compiler);
	const byId = compiler.selectLocked(GUARDRAILS, 'where id = ?');
	const remove = compiler.statement('delete from guardrails where id = ?');
	const removeVersion = compiler.statement('delete from guardrails where id = ? and version = ?');
	const at = compiler.select(GUARDRAILS, `where ${compiler.inListText('scope')} and id > ? order by id limit ?`);
	const all = compiler.select(GUARDRAILS, 'order by id limit ?');
	return {
		*insertGuardrail(row: GuardrailRow) {
			yield insert(row);
			yield* raise();
		},
		*getGuardrail(id) {
			return GUARDRAILS.first(yield byId(id));
		},
		*deleteGuardrail(id, ifVersion) {
			const { changes } = yield ifVersion === undefined ? remove(id) : removeVersion(id, ifVersion);
			if (changes > 0) yield* raise();
			return changes > 0;
		},
		*listGuardrails({ scopes, afterId, limit }) {
			return scopes.length === 0 ? [] : GUARDRAILS.all(yield at(scopes, afterId, limit));
		},
		*allGuardrails(limit) {
			return GUARDRAILS.all(yield all(limit));
		},
	};
}
