import type { BreakGlass, BreakGlassGrantRow, BreakGlassKeyRow } from '../port/break-glass.ts';
import type { Compiler } from './compiler.ts';
import { BREAK_GLASS_GRANTS, BREAK_GLASS_KEYS } from './login-schema.ts';
import { RAISE_EPOCH } from './logins.ts';

const NEXT = 'version = version + 1';
const UNANSWERED = 'activated_at_ms is null and ended_at_ms is null';

export function breakGlassTable(compiler: Compiler): BreakGlass {
	const insertKey = compiler.insert(BREAK_GLASS_KEYS);
	const keys = compiler.select(BREAK_GLASS_KEYS, 'where removed_at_ms is null and id > ? order by id limit ?');
	const raiseCount = compiler.statement('update break_glass_keys set sign_count = ? where id = ? and sign_count < ?');
	const insertGrant = compiler.insert(BREAK_GLASS_GRANTS);
	const grant = compiler.selectLocked(BREAK_GLASS_GRANTS, 'where id = ?');
	const bySecret = compiler.select(BREAK_GLASS_GRANTS, 'where secret_sha256 = ?');
	const grants = compiler.select(BREAK_GLASS_GRANTS, 'where id > ? order by id limit ?');
	const open = compiler.statement(
		`select count(*) as n from break_glass_grants where peer = ? and ${UNANSWERED} and challenge_expires_at_ms > ?`,
	);
	const forgetOver = compiler.statement(
		`delete from break_glass_grants where ${UNANSWERED} and challenge_expires_at_ms <= ?`,
	);
	const forgetOldest = compiler.statement(
		`delete from break_glass_grants where ${UNANSWERED} and id <= (select id from break_glass_grants where ${UNANSWERED} order by id desc limit 1 offset ?)`,
	);
	const raiseEpoch = compiler.statement(RAISE_EPOCH);
	return {
		*insertKey(row: BreakGlassKeyRow) {
			yield insertKey(row);
		},
		*listKeys({ afterId, limit }) {
			return BREAK_GLASS_KEYS.all(yield keys(afterId, limit));
		},
		*removeKey(id, atMs) {
			const there = [{ sql: 'removed_at_ms is null' }];
			return yield* compiler.patch<BreakGlassKeyRow>(BREAK_GLASS_KEYS, ['id', id], { removedAtMs: atMs }, there);
		},
		*raiseSignCount(id, signCount) {
			return (yield raiseCount(signCount, id, signCount)).changes > 0;
		},
		*insertGrant(row: BreakGlassGrantRow) {
			yield insertGrant(row);
		},
		*getGrant(id) {
			return BREAK_GLASS_GRANTS.first(yield grant(id));
		},
		*getGrantBySecret(secretSha256) {
			return BREAK_GLASS_GRANTS.first(yield bySecret(secretSha256));
		},
		*activate(id, to) {
			const waiting = [{ sql: 'activated_at_ms is null' }, { sql: 'ended_at_ms is null' }];
			const row = yield* compiler.patch<BreakGlassGrantRow>(BREAK_GLASS_GRANTS, ['id', id], to, waiting, NEXT);
			if (row !== undefined) yield raiseEpoch();
			return row;
		},
		*end(id, atMs) {
			const live = [{ sql: 'ended_at_ms is null' }];
			const patch = { endedAtMs: atMs };
			const row = yield* compiler.patch<BreakGlassGrantRow>(BREAK_GLASS_GRANTS, ['id', id], patch, live, NEXT);
			if (row !== undefined) yield raiseEpoch();
			return row;
		},
		*countOpenChallenges(peer, nowMs) {
			return Number((yield open(peer, nowMs)).rows[0]?.n);
		},
		*forgetChallenges(keep, nowMs) {
			const over = (yield forgetOver(nowMs)).changes;
			return over + (yield forgetOldest(keep)).changes;
		},
		*listGrants({ afterId, limit }) {
			return BREAK_GLASS_GRANTS.all(yield grants(afterId, limit));
		},
	};
}
