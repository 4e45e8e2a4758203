import { sql } from 'kysely';
import type { TerminalPatch, TerminalRow, TerminalShareRow, Terminals } from '../port/terminals.ts';
import type { Compiler } from './compiler.ts';
import { TERMINAL_SHARES, TERMINALS } from './schema.ts';
import { inVisible, type VisibilityShape, visibilityShape, visibilityText } from './visibility.ts';

/** As in the partial index terminals_open: SQLite uses it only for a query that says the same in the same words. */
const OPEN_SQL = `state <> 'closed'`;
const open = sql.raw<boolean>(OPEN_SQL);

export function terminalsTable(compiler: Compiler): Terminals {
	return { ...rows(compiler), ...lists(compiler), ...shares(compiler) };
}

function rows(compiler: Compiler): Pick<Terminals, 'insert' | 'get' | 'update' | 'countOpen' | 'countOpenOf'> {
	const insert = compiler.insert(TERMINALS);
	const byId = compiler.prepare<{ id: string }>((db, slot) =>
		compiler.locked(db.selectFrom('terminals').select(TERMINALS.columns).where('id', '=', slot('id'))),
	);
	const countOpen = compiler.prepare<{ nodeId: string }>((db, slot) =>
		db
			.selectFrom('terminals')
			.select((of) => of.fn.countAll<number>().as('count'))
			.where(open)
			.where('node_id', '=', slot('nodeId')),
	);
	const lockOpener = compiler.prepare<{ id: string }>((db, slot) =>
		compiler.locked(db.selectFrom('principals').select('id').where('id', '=', slot('id'))),
	);
	const countOpenOf = compiler.prepare<{ createdBy: string; organization: string }>((db, slot) =>
		db
			.selectFrom('terminals')
			.select((of) => of.fn.countAll<number>().as('count'))
			.where(open)
			.where('created_by', '=', slot('createdBy'))
			.where('organization', '=', slot('organization')),
	);
	return {
		*insert(row: TerminalRow) {
			yield insert(row);
		},
		*get(id) {
			return TERMINALS.first(yield byId({ id }));
		},
		*update(id: string, patch: TerminalPatch) {
			return yield* compiler.patch<TerminalRow>(TERMINALS, ['id', id], patch, [{ sql: OPEN_SQL }]);
		},
		*countOpen(nodeId) {
			return Number((yield countOpen({ nodeId })).rows[0]?.count);
		},
		*countOpenOf(principalId, organization) {
			yield lockOpener({ id: principalId });
			return Number((yield countOpenOf({ createdBy: principalId, organization })).rows[0]?.count);
		},
	};
}

interface ListValues {
	readonly afterId: string;
	readonly limit: number;
	readonly nodeId: string;
	readonly visibility: string;
}

function lists(compiler: Compiler): Pick<Terminals, 'list' | 'listOpen'> {
	const list = compiler.prepareShapes<ListValues, string>((db, slot, shape) => {
		const [below, node, visible, state] = shape.split('|');
		let query = db.selectFrom('terminals').select(TERMINALS.columns).orderBy('id', 'desc').limit(slot('limit'));
		if (below !== '') query = query.where('id', '<', slot('afterId'));
		if (node !== '') query = query.where('node_id', '=', slot('nodeId'));
		if (state === 'open') query = query.where(open);
		if (visible === 'all') return query;
		const project = ['terminals.organization', 'terminals.project'] as const;
		const seen = inVisible(compiler, project, visible as VisibilityShape, slot('visibility'));
		return query.where((of) =>
			visible === 'projects+deleted+unowned' ? of.or([of('organization', 'is', null), seen]) : seen,
		);
	});
	const select = (node: string) =>
		compiler.text(
			`select ${TERMINALS.columnsSql} from terminals where ${OPEN_SQL}${node} and id > ? order by id limit ?`,
		);
	const openOfNode = select(' and node_id = ?');
	const openOfAll = select('');
	return {
		*list({ afterId, limit, nodeId, includeClosed, visibility }) {
			const shape = [
				afterId === '' ? '' : 'below',
				nodeId === null ? '' : 'node',
				visibilityShape(visibility),
				includeClosed ? '' : 'open',
			].join('|');
			const values = { afterId, limit, nodeId: nodeId ?? '', visibility: visibilityText(visibility) };
			return TERMINALS.all(yield list(shape, values));
		},
		*listOpen(nodeId, afterId, limit) {
			const statement =
				nodeId === null
					? { sql: openOfAll, parameters: [afterId, limit] }
					: { sql: openOfNode, parameters: [nodeId, afterId, limit] };
			return TERMINALS.all(yield statement);
		},
	};
}

function shares(compiler: Compiler): Pick<Terminals, 'putShare' | 'deleteShare' | 'getShare'> {
	const insert = compiler.insert(TERMINAL_SHARES);
	const remove = compiler.text('delete from terminal_shares where terminal_id = ? and principal_id = ?');
	const byKey = compiler.prepare<{ terminalId: string; principalId: string }>((db, slot) =>
		db
			.selectFrom('terminal_shares')
			.select(TERMINAL_SHARES.columns)
			.where('terminal_id', '=', slot('terminalId'))
			.where('principal_id', '=', slot('principalId')),
	);
	return {
		*putShare(row: TerminalShareRow) {
			yield { sql: remove, parameters: [row.terminalId, row.principalId] };
			yield insert(row);
		},
		*deleteShare(terminalId, principalId) {
			yield { sql: remove, parameters: [terminalId, principalId] };
		},
		*getShare(terminalId, principalId) {
			return TERMINAL_SHARES.first(yield byKey({ terminalId, principalId }));
		},
	};
}
