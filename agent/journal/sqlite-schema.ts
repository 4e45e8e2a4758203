import type Database from 'better-sqlite3';
import { GpuaasError } from '../../kit/error.ts';
import type { AttemptPhase } from './journal.ts';

/** The journal's tables and every statement that runs on them. Forward only: `user_version` counts the steps. */
const MIGRATIONS: readonly string[] = [
	`CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
	CREATE TABLE facts (seq INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
	CREATE TABLE attempts (
		task_id TEXT NOT NULL,
		attempt INTEGER NOT NULL,
		fencing_token INTEGER NOT NULL,
		phase TEXT NOT NULL CHECK (phase IN ('accepted', 'cancelling', 'started', 'finished', 'done')),
		envelope BLOB NOT NULL,
		envelope_sha256 BLOB NOT NULL,
		accepted_at_ms INTEGER NOT NULL,
		boot_id TEXT NOT NULL,
		cancel_reason TEXT NOT NULL,
		output_stored INTEGER NOT NULL,
		ended_seq INTEGER,
		PRIMARY KEY (task_id, attempt)
	) STRICT;
	CREATE INDEX attempts_open ON attempts (accepted_at_ms) WHERE phase <> 'done';
	CREATE INDEX attempts_done ON attempts (accepted_at_ms) WHERE phase = 'done';
	CREATE INDEX attempts_unsettled ON attempts (ended_seq) WHERE phase = 'finished';
	CREATE TABLE replay (
		task_id TEXT NOT NULL,
		attempt INTEGER NOT NULL,
		fencing_token INTEGER NOT NULL,
		accepted_at_ms INTEGER NOT NULL,
		PRIMARY KEY (task_id, attempt)
	) STRICT, WITHOUT ROWID;
	CREATE INDEX replay_age ON replay (accepted_at_ms);`,
	`CREATE TABLE grants (id TEXT PRIMARY KEY, keep_until_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
	CREATE INDEX grants_age ON grants (keep_until_ms);`,
	// Whoever took those that are kept already isn't known: they count in nobody's share.
	`ALTER TABLE grants ADD COLUMN holder TEXT NOT NULL DEFAULT 'unknown';
	CREATE TABLE grant_shares (holder TEXT PRIMARY KEY, held INTEGER NOT NULL) STRICT, WITHOUT ROWID;
	INSERT INTO grant_shares (holder, held) SELECT holder, count(*) FROM grants GROUP BY holder;
	CREATE TRIGGER grants_taken AFTER INSERT ON grants BEGIN
		INSERT INTO grant_shares (holder, held) VALUES (new.holder, 1) ON CONFLICT (holder) DO UPDATE SET held = held + 1;
	END;
	CREATE TRIGGER grants_expired AFTER DELETE ON grants BEGIN
		UPDATE grant_shares SET held = held - 1 WHERE holder = old.holder;
		DELETE FROM grant_shares WHERE holder = old.holder AND held = 0;
	END;`,
	// Those that are kept already count in their holder's share, and in nobody's own.
	`ALTER TABLE grants ADD COLUMN person TEXT NOT NULL DEFAULT 'unknown';
	CREATE TABLE grant_people (
		holder TEXT NOT NULL, person TEXT NOT NULL, held INTEGER NOT NULL, PRIMARY KEY (holder, person)
	) STRICT, WITHOUT ROWID;
	INSERT INTO grant_people (holder, person, held) SELECT holder, person, count(*) FROM grants GROUP BY holder, person;
	CREATE TRIGGER grants_taken_by AFTER INSERT ON grants BEGIN
		INSERT INTO grant_people (holder, person, held) VALUES (new.holder, new.person, 1)
		ON CONFLICT (holder, person) DO UPDATE SET held = held + 1;
	END;
	CREATE TRIGGER grants_expired_by AFTER DELETE ON grants BEGIN
		UPDATE grant_people SET held = held - 1 WHERE holder = old.holder AND person = old.person;
		DELETE FROM grant_people WHERE holder = old.holder AND person = old.person AND held = 0;
	END;`,
];

export function migrate(db: Database.Database): void {
	const version = Number(db.pragma('user_version', { simple: true }));
	if (version > MIGRATIONS.length) {
		throw new GpuaasError({
			code: 'FAILED_PRECONDITION',
			reason: 'STORE_UNAVAILABLE',
			message: `the agent's journal was written by a newer agent (format ${version}); install that version again`,
		});
	}
	for (const step of MIGRATIONS.slice(version)) db.exec(step);
	// Nothing else of a start needs room on the disk.
	if (version < MIGRATIONS.length) db.pragma(`user_version = ${MIGRATIONS.length}`);
}

export interface StoredFact {
	readonly seq: bigint;
	readonly bytes: Uint8Array;
}

export interface StoredReplay {
	readonly task_id: string;
	readonly attempt: bigint;
	readonly fencing_token: bigint;
	readonly accepted_at_ms: bigint;
}

export interface StoredAttempt extends StoredReplay {
	readonly phase: AttemptPhase;
	readonly envelope: Uint8Array;
	readonly envelope_sha256: Uint8Array;
	readonly boot_id: string;
	readonly cancel_reason: string;
	readonly output_stored: bigint;
	readonly ended_seq: bigint | null;
}

const PRUNABLE = `FROM attempts WHERE phase = 'done' AND accepted_at_ms < ?`;

/** All of an hour at once would hold up every keystroke of the node for half a second. */
export const GRANTS_FREED_TOGETHER = 16;

export const SQL = {
	begin: 'BEGIN IMMEDIATE',
	commit: 'COMMIT',
	rollback: 'ROLLBACK',
	insertFact: 'INSERT INTO facts (seq, bytes) VALUES (?, ?)',
	setEnded: 'UPDATE attempts SET ended_seq = ? WHERE task_id = ? AND attempt = ?',
	listFacts: 'SELECT seq, bytes FROM facts WHERE seq > ? ORDER BY seq LIMIT ?',
	sumFacts: 'SELECT count(*) AS count, coalesce(sum(length(bytes)), 0) AS bytes FROM facts WHERE seq <= ?',
	deleteFacts: 'DELETE FROM facts WHERE seq <= ?',
	negateFacts: 'UPDATE facts SET seq = -(seq + ?)',
	restoreFacts: 'UPDATE facts SET seq = -seq WHERE seq < 0',
	moveEnded: 'UPDATE attempts SET ended_seq = ended_seq + ? WHERE ended_seq >= ?',
	lastFact: 'SELECT max(seq) AS seq FROM facts',
	settle: `UPDATE attempts SET phase = 'done' WHERE phase = 'finished' AND output_stored = 1 AND ended_seq <= ?`,
	getAttempt: 'SELECT * FROM attempts WHERE task_id = ? AND attempt = ?',
	latestAttempt: 'SELECT * FROM attempts WHERE task_id = ? AND fencing_token > 0 ORDER BY attempt DESC LIMIT 1',
	putAttempt: `INSERT INTO attempts
		(task_id, attempt, fencing_token, phase, envelope, envelope_sha256, accepted_at_ms, boot_id, cancel_reason, output_stored)
		VALUES (@taskId, @attempt, @fencingToken, @phase, @envelope, @envelopeSha256, @acceptedAtMs, @bootId, @cancelReason, @outputStored)
		ON CONFLICT (task_id, attempt) DO UPDATE SET fencing_token = excluded.fencing_token, phase = excluded.phase,
		envelope = excluded.envelope, envelope_sha256 = excluded.envelope_sha256, accepted_at_ms = excluded.accepted_at_ms,
		boot_id = excluded.boot_id, cancel_reason = excluded.cancel_reason, output_stored = excluded.output_stored`,
	listOpen: `SELECT * FROM attempts WHERE phase <> 'done' ORDER BY accepted_at_ms, rowid`,
	listOutputPending: `SELECT * FROM attempts WHERE phase <> 'done' AND phase <> 'accepted' AND output_stored = 0
		ORDER BY accepted_at_ms, rowid`,
	sumAttempts: 'SELECT count(*) AS count, coalesce(sum(length(envelope)), 0) AS bytes FROM attempts',
	sumPrunable: `SELECT count(*) AS count, coalesce(sum(length(envelope)), 0) AS bytes ${PRUNABLE}`,
	keepReplay: `INSERT OR REPLACE INTO replay (task_id, attempt, fencing_token, accepted_at_ms)
		SELECT task_id, attempt, fencing_token, accepted_at_ms ${PRUNABLE}`,
	deletePrunable: `DELETE ${PRUNABLE}`,
	getReplay: 'SELECT * FROM replay WHERE task_id = ? AND attempt = ?',
	latestReplay: 'SELECT * FROM replay WHERE task_id = ? AND fencing_token > 0 ORDER BY attempt DESC LIMIT 1',
	deleteReplay: 'DELETE FROM replay WHERE accepted_at_ms < ?',
	countReplay: 'SELECT count(*) AS count FROM replay',
	getGrant: 'SELECT 1 FROM grants WHERE id = ?',
	putGrant: 'INSERT INTO grants (id, holder, person, keep_until_ms) VALUES (@id, @holder, @person, @keepUntilMs)',
	deleteGrants: `DELETE FROM grants
		WHERE id IN (SELECT id FROM grants WHERE keep_until_ms < ? ORDER BY keep_until_ms LIMIT ${GRANTS_FREED_TOGETHER})`,
	sumGrants: `SELECT coalesce(sum(held), 0) AS kept, coalesce(sum(held) FILTER (WHERE holder = ?), 0) AS held
		FROM grant_shares`,
	getOwn: 'SELECT held FROM grant_people WHERE holder = ? AND person = ?',
	getSetting: 'SELECT value FROM settings WHERE name = ?',
	putSetting:
		'INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value',
} as const;
