import type { ApprovalRow, Approvals } from '../port/approvals.ts';
import type { Compiler } from './compiler.ts';
import { APPROVALS } from './login-schema.ts';
import { rangesOf, visiblePath } from './visibility.ts';

const NEXT = 'version = version + 1';

export function approvalsTable(compiler: Compiler): Approvals {
	const insert = compiler.insert(APPROVALS);
	const byId = compiler.selectLocked(APPROVALS, 'where id = ?');
	const all = compiler.select(APPROVALS, 'where id > ? order by id limit ?');
	const seen = (alive: string) =>
		compiler.select(
			APPROVALS,
			`where id > ? and (requester_id = ? or scope in (select name from scopes where ${visiblePath(compiler, 'scopes.path')} ${alive})) order by id limit ?`,
		);
	const visible = seen(`and scopes.state <> 'deleted'`);
	const visibleOrDeleted = seen('');
	const pending = compiler.statement(
		`select count(*) as n from approvals where requester_id = ? and state = 'pending' and expires_at_ms > ?`,
	);
	const inState = (state: ApprovalRow['state']) => [{ sql: 'state = ?', value: state }];
	return {
		*insert(row: ApprovalRow) {
			yield insert(row);
		},
		*get(id) {
			return APPROVALS.first(yield byId(id));
		},
		*decide(id, to) {
			return yield* compiler.patch<ApprovalRow>(APPROVALS, ['id', id], to, inState('pending'), NEXT);
		},
		*consume(id, atMs) {
			const to = { state: 'consumed', consumedAtMs: atMs } as const;
			return yield* compiler.patch<ApprovalRow>(APPROVALS, ['id', id], to, inState('approved'), NEXT);
		},
		*countPending(requesterId, nowMs) {
			return Number((yield pending(requesterId, nowMs)).rows[0]?.n);
		},
		*list({ afterId, limit, requesterId, visibility }) {
			if (visibility.all) return APPROVALS.all(yield all(afterId, limit));
			const ranges = [rangesOf(visibility.grants), rangesOf(visibility.denials)];
			const list = visibility.deleted ? visibleOrDeleted : visible;
			return APPROVALS.all(yield list(afterId, requesterId, ...ranges, limit));
		},
	};
}
