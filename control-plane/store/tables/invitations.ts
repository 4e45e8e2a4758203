import type { InvitationRow, Invitations } from '../port/invitations.ts';
import type { Compiler, Condition } from './compiler.ts';
import { INVITATIONS } from './iam-schema.ts';

const OPEN: readonly Condition[] = [{ sql: 'accepted_at_ms is null and revoked_at_ms is null' }];
const NEXT = 'version = version + 1';

export function invitationsTable(compiler: Compiler): Invitations {
	const insert = compiler.insert(INVITATIONS);
	const byId = compiler.selectLocked(INVITATIONS, 'where id = ?');
	const byToken = compiler.selectLocked(INVITATIONS, 'where token_sha256 = ?');
	const list = compiler.select(INVITATIONS, 'where organization = ? and id > ? order by id limit ?');
	const open = compiler.statement(
		'select count(*) as count from invitations where organization = ? and expires_at_ms > ? and accepted_at_ms is null and revoked_at_ms is null',
	);
	const revokeBy =
		'update invitations set revoked_at_ms = ?, version = version + 1 where created_by = ? and accepted_at_ms is null and revoked_at_ms is null';
	const revokeAll = compiler.statement(revokeBy);
	const revokeAllIn = compiler.statement(`${revokeBy} and organization = ?`);
	const patch = (id: string, changes: Partial<InvitationRow>) =>
		compiler.patch<InvitationRow>(INVITATIONS, ['id', id], changes, OPEN, NEXT);
	return {
		*insert(row: InvitationRow) {
			yield insert(row);
		},
		*get(id) {
			return INVITATIONS.first(yield byId(id));
		},
		*getByToken(tokenSha256) {
			return INVITATIONS.first(yield byToken(tokenSha256));
		},
		*accept(id, acceptedBy, atMs) {
			return yield* patch(id, { acceptedAtMs: atMs, acceptedBy });
		},
		*revoke(id, atMs) {
			return yield* patch(id, { revokedAtMs: atMs });
		},
		*revokeAllBy(createdBy, organization, atMs) {
			const revoke = organization === null ? revokeAll(atMs, createdBy) : revokeAllIn(atMs, createdBy, organization);
			return (yield revoke).changes;
		},
		*countOpen(organization, nowMs) {
			return Number((yield open(organization, nowMs)).rows[0]?.count);
		},
		*list({ organization, afterId, limit }) {
			return INVITATIONS.all(yield list(organization, afterId, limit));
		},
	};
}
