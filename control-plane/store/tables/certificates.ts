import { sql } from 'kysely';
import type { CertificateRow, Certificates } from '../port/certificates.ts';
import type { Compiler } from './compiler.ts';
import { CERTIFICATES } from './schema.ts';

type Denied = Pick<CertificateRow, 'serial' | 'notAfterMs' | 'revokedAtMs' | 'subjectId'>;

export function certificatesTable(compiler: Compiler): Certificates {
	const insert = compiler.insert(CERTIFICATES);
	const bySerial = compiler.prepare<{ serial: string }>((db, slot) =>
		compiler.locked(db.selectFrom('certificates').select(CERTIFICATES.columns).where('serial', '=', slot('serial'))),
	);
	const slots = compiler.prepare<{ nodeId: string }>((db, slot) =>
		compiler.locked(
			db
				.selectFrom('certificates')
				.select(CERTIFICATES.columns)
				.where('subject_id', '=', slot('nodeId'))
				.where(sql<boolean>`kind = 'node'`)
				.where(sql<boolean>`state in ('current', 'pending')`),
		),
	);
	const slotsOf = compiler.prepare<{ nodeIds: readonly string[] }>((db, slot) =>
		db
			.selectFrom('certificates')
			.select(CERTIFICATES.columns)
			.where(compiler.inList('subject_id', slot('nodeIds')))
			.where(sql<boolean>`kind = 'node'`)
			.where(sql<boolean>`state in ('current', 'pending')`),
	);
	const live = compiler.prepare<{ subjectId: string; nowMs: number }>((db, slot) =>
		db
			.selectFrom('certificates')
			.select(CERTIFICATES.columns)
			.where('subject_id', '=', slot('subjectId'))
			.where('state', '<>', 'revoked')
			.where('not_after_ms', '>', slot('nowMs'))
			.orderBy('serial'),
	);
	const list = compiler.prepareShapes<{ afterId: string; limit: number; subjectId: string }, 'all' | 'subject'>(
		(db, slot, shape) => {
			const query = db
				.selectFrom('certificates')
				.select(CERTIFICATES.columns)
				.where('serial', '>', slot('afterId'))
				.orderBy('serial')
				.limit(slot('limit'));
			return shape === 'all' ? query : query.where('subject_id', '=', slot('subjectId'));
		},
	);
	const denied = compiler.prepare<{ nowMs: number; sinceMs: number; limit: number }>((db, slot) =>
		db
			.selectFrom('certificates')
			.select([
				'serial as serial',
				'not_after_ms as notAfterMs',
				'revoked_at_ms as revokedAtMs',
				'subject_id as subjectId',
			])
			.where('revoked_at_ms', '>=', slot('sinceMs'))
			.where('not_after_ms', '>', slot('nowMs'))
			.orderBy('revoked_at_ms')
			.orderBy('serial')
			.limit(slot('limit')),
	);
	return {
		*insert(row: CertificateRow) {
			yield insert(row);
		},
		*get(serial) {
			return CERTIFICATES.first(yield bySerial({ serial }));
		},
		*update(serial, patch) {
			return yield* compiler.patch<CertificateRow>(CERTIFICATES, ['serial', serial], patch);
		},
		*slots(nodeId) {
			const rows = CERTIFICATES.all(yield slots({ nodeId }));
			return {
				current: rows.find((row) => row.state === 'current'),
				pending: rows.find((row) => row.state === 'pending'),
			};
		},
		*slotsOf(nodeIds) {
			return nodeIds.length === 0 ? [] : CERTIFICATES.all(yield slotsOf({ nodeIds }));
		},
		*listLive(subjectId, nowMs) {
			return CERTIFICATES.all(yield live({ subjectId, nowMs }));
		},
		*list({ afterId, limit, subjectId }) {
			const shape = subjectId === null ? 'all' : 'subject';
			return CERTIFICATES.all(yield list(shape, { afterId, limit, subjectId: subjectId ?? '' }));
		},
		*listDenied(nowMs, sinceMs, limit) {
			return (yield denied({ nowMs, sinceMs, limit })).rows as readonly unknown[] as readonly Denied[];
		},
	};
}
