import type { BindingRow, CredentialRow, Identities, PrincipalRow } from '../port/identities.ts';
import type { Compiler } from './compiler.ts';
import { BINDINGS, CREDENTIALS, PRINCIPALS } from './schema.ts';

/** Every change of who may do what raises the policy epoch in the same unit. */
export function identitiesTable(compiler: Compiler): Identities {
	const insertPrincipal = compiler.insert(PRINCIPALS);
	const insertCredential = compiler.insert(CREDENTIALS);
	const insertBinding = compiler.insert(BINDINGS);
	const principal = compiler.prepare<{ id: string }>((db, slot) =>
		db.selectFrom('principals').select(PRINCIPALS.columns).where('id', '=', slot('id')),
	);
	const credential = compiler.prepare<{ id: string }>((db, slot) =>
		db.selectFrom('credentials').select(CREDENTIALS.columns).where('id', '=', slot('id')),
	);
	const bindings = compiler.prepare<{ principalId: string }>((db, slot) =>
		db.selectFrom('bindings').select(BINDINGS.columns).where('principal_id', '=', slot('principalId')).orderBy('id'),
	);
	const epoch = compiler.prepare((db) => db.selectFrom('policy').select('epoch as epoch').where('id', '=', 1));
	const raiseEpoch = compiler.prepare((db) =>
		db
			.updateTable('policy')
			.set((of) => ({ epoch: of('epoch', '+', 1) }))
			.where('id', '=', 1),
	);
	return {
		*insertPrincipal(row: PrincipalRow) {
			yield insertPrincipal(row);
			yield raiseEpoch({});
		},
		*getPrincipal(id) {
			return PRINCIPALS.first(yield principal({ id }));
		},
		*insertCredential(row: CredentialRow) {
			yield insertCredential(row);
			yield raiseEpoch({});
		},
		*getCredential(id) {
			return CREDENTIALS.first(yield credential({ id }));
		},
		*revokeCredential(id, atMs) {
			const conditions = [{ sql: 'revoked_at_ms is null' }];
			const patch = { revokedAtMs: atMs };
			const revoked = yield* compiler.patch<CredentialRow>(CREDENTIALS, ['id', id], patch, conditions);
			if (revoked !== undefined) yield raiseEpoch({});
			return revoked !== undefined;
		},
		*insertBinding(row: BindingRow) {
			yield insertBinding(row);
			yield raiseEpoch({});
		},
		*listBindings(principalId) {
			return BINDINGS.all(yield bindings({ principalId }));
		},
		*policyEpoch() {
			return Number((yield epoch({})).rows[0]?.epoch);
		},
	};
}
