import type { RecordingPatch, RecordingRow, RecordingState, Recordings } from '../port/recordings.ts';
import type { Compiler } from './compiler.ts';
import { RECORDINGS } from './schema.ts';
import { inVisible, type VisibilityShape, visibilityShape, visibilityText } from './visibility.ts';

interface ListValues {
	readonly afterId: string;
	readonly limit: number;
	readonly nodeId: string;
	readonly terminalId: string;
	readonly visibility: string;
}

export function recordingsTable(compiler: Compiler): Recordings {
	return { ...changes(compiler), ...lists(compiler) };
}

function changes(compiler: Compiler): Pick<Recordings, 'insert' | 'get' | 'update'> {
	const insert = compiler.insert(RECORDINGS);
	const byId = compiler.prepare<{ id: string }>((db, slot) =>
		compiler.locked(db.selectFrom('recordings').select(RECORDINGS.columns).where('id', '=', slot('id'))),
	);
	return {
		*insert(row: RecordingRow) {
			yield insert(row);
		},
		*get(id) {
			return RECORDINGS.first(yield byId({ id }));
		},
		*update(id: string, patch: RecordingPatch, ifState: RecordingState) {
			return yield* compiler.patch<RecordingRow>(RECORDINGS, ['id', id], patch, [{ sql: 'state = ?', value: ifState }]);
		},
	};
}

function lists(compiler: Compiler): Omit<Recordings, 'insert' | 'get' | 'update'> {
	const list = compiler.prepareShapes<ListValues, string>((db, slot, shape) => {
		const [below, node, terminal, visible] = shape.split('|');
		let query = db.selectFrom('recordings').select(RECORDINGS.columns).orderBy('id', 'desc').limit(slot('limit'));
		if (below !== '') query = query.where('id', '<', slot('afterId'));
		if (node !== '') query = query.where('node_id', '=', slot('nodeId'));
		if (terminal !== '') query = query.where('terminal_id', '=', slot('terminalId'));
		if (visible === 'all') return query;
		const project = ['recordings.organization', 'recordings.project'] as const;
		const seen = inVisible(compiler, project, visible as VisibilityShape, slot('visibility'));
		return query.where((of) =>
			visible === 'projects+deleted+unowned' ? of.or([of('organization', 'is', null), seen]) : seen,
		);
	});
	const some = (rest: string) => {
		const text = compiler.text(`select ${RECORDINGS.columnsSql} from recordings where ${rest} limit ?`);
		return (...parameters: readonly (string | number)[]) => ({ sql: text, parameters });
	};
	const parts = some('terminal_id = ? order by part');
	const recording = some(`state = 'recording' and replica_id = ? and id > ? order by id`);
	const purging = some(`state = 'purged' and purged_at_ms is null order by id`);
	const expired = some(`state = 'sealed' and held_at_ms is null and ended_at_ms < ? order by ended_at_ms, id`);
	return {
		*list({ afterId, limit, nodeId, terminalId, visibility }) {
			const shape = [
				afterId === '' ? '' : 'below',
				nodeId === null ? '' : 'node',
				terminalId === null ? '' : 'terminal',
				visibilityShape(visibility),
			].join('|');
			const values = {
				afterId,
				limit,
				nodeId: nodeId ?? '',
				terminalId: terminalId ?? '',
				visibility: visibilityText(visibility),
			};
			return RECORDINGS.all(yield list(shape, values));
		},
		*listParts(terminalId, limit) {
			return RECORDINGS.all(yield parts(terminalId, limit));
		},
		*listRecording(replicaId, afterId, limit) {
			return RECORDINGS.all(yield recording(replicaId, afterId, limit));
		},
		*listPurging(limit) {
			return RECORDINGS.all(yield purging(limit));
		},
		*listExpired(endedBeforeMs, limit) {
			return RECORDINGS.all(yield expired(endedBeforeMs, limit));
		},
	};
}
