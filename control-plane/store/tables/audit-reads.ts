import type { AuditFilter, AuditLog } from '../port/audit.ts';
import type { Statement } from '../port/unit.ts';
import type { Compiler } from './compiler.ts';
import { AUDIT_HEADS, AUDIT_LEAVES } from './schema.ts';

type Reads = Exclude<keyof AuditLog, 'append' | 'listUnchained' | 'queryUnchained' | 'chain'>;

/** What is the same in both dialects: everything about leaves that have their position, and heads. */
export function auditReads(compiler: Compiler): Pick<AuditLog, Reads> {
	const chained = `select link.seq as "seq", leaf.id as "id", leaf.leaf as "leaf", link.chain as "chain",
		side.clear as "clear", ${both('action')}, ${both('target')}, ${organization}, leaf.actor_is_own as "actorIsOwn", leaf.at_ms as "atMs"
		from audit_chain as link join audit_leaves as leaf on leaf.ord = link.ord
		left join audit_clear as side on side.leaf_id = leaf.id`;
	const last = `${chained} order by link.seq desc limit 1`;
	const list = compiler.text(`${chained} where link.seq >= ? order by link.seq limit ?`);
	const seqOf = compiler.text(
		'select link.seq as seq from audit_leaves as leaf left join audit_chain as link on link.ord = leaf.ord where leaf.id = ?',
	);
	const erase = compiler.text('update audit_clear set clear = null where leaf_id = ?');
	return {
		...auditHeads(compiler),
		*last() {
			return AUDIT_LEAVES.first(yield { sql: last, parameters: [] });
		},
		*list(fromSeq, limit) {
			return AUDIT_LEAVES.all(yield { sql: list, parameters: [compiler.bind(fromSeq), limit] });
		},
		*seqOf(id) {
			const row = (yield { sql: seqOf, parameters: [id] }).rows[0];
			return row === undefined ? undefined : (row.seq as number | null);
		},
		*query(filter) {
			return AUDIT_LEAVES.all(yield queryStatement(compiler, chained, filter));
		},
		*eraseClear(id) {
			yield { sql: erase, parameters: [id] };
		},
	};
}

/**
 * The copy beside the leaf and the one beside the chain, which is searched: where they differ it is neither, so that
 * whoever holds the row against its leaf finds either of them changed.
 */
function both(name: 'action' | 'target'): string {
	return `case when link.${name} = leaf.${name} then leaf.${name} else '(copies differ)' end as "${name}"`;
}

const organization = `case when link.organization is null and leaf.organization is null then null
	when link.organization = leaf.organization then leaf.organization else '(copies differ)' end as "organization"`;

function queryStatement(compiler: Compiler, chained: string, filter: Parameters<AuditLog['query']>[0]): Statement {
	const { conditions, parameters } = matching(compiler, 'link', filter);
	if (filter.afterSeq !== null) {
		conditions.push(filter.newestFirst ? 'link.seq < ?' : 'link.seq > ?');
		parameters.push(compiler.bind(filter.afterSeq));
	}
	const where = conditions.length === 0 ? '' : ` where ${conditions.join(' and ')}`;
	const order = filter.newestFirst ? ' desc' : '';
	parameters.push(filter.limit);
	return { sql: compiler.text(`${chained}${where} order by link.seq${order} limit ?`), parameters };
}

/** What of a filter is the same for leaves with a position (`link`) and without (`leaf`). */
function matching(compiler: Compiler, of: 'link' | 'leaf', filter: AuditFilter) {
	const conditions: string[] = [];
	const parameters: unknown[] = [];
	const add = (condition: string, ...values: readonly unknown[]) => {
		conditions.push(condition);
		parameters.push(...values.map((value) => compiler.bind(value)));
	};
	if (filter.action.endsWith('.')) {
		// The range of a prefix: '/' is the character after '.'.
		add(`${of}.action > ? and ${of}.action < ?`, filter.action, `${filter.action.slice(0, -1)}/`);
	} else if (filter.action !== '') add(`${of}.action = ?`, filter.action);
	if (filter.target !== '') add(`${of}.target = ?`, filter.target);
	if (filter.beforeId !== undefined) add(`${of}.ord < (select ord from audit_leaves where id = ?)`, filter.beforeId);
	const [one, ...others] = filter.organizations ?? [];
	// With one, the index gives the page in its order.
	if (one !== undefined && others.length === 0) add(`${of}.organization = ?`, one);
	else if (filter.organizations !== null) add(compiler.inListText(`${of}.organization`), filter.organizations);
	return { conditions, parameters };
}

/** `waiting`: a select of all leaves without a position, as `leaf`, with its own condition. */
export function queryUnchained(compiler: Compiler, waiting: string): AuditLog['queryUnchained'] {
	return function* (filter) {
		const { conditions, parameters } = matching(compiler, 'leaf', filter);
		const and = conditions.map((condition) => ` and ${condition}`).join('');
		const sql = compiler.text(`${waiting}${and} order by leaf.ord desc limit ?`);
		return AUDIT_LEAVES.all(yield { sql, parameters: [...parameters, filter.limit] });
	};
}

function auditHeads(compiler: Compiler): Pick<AuditLog, 'putHead' | 'lastHead' | 'listHeads'> {
	const insert = compiler.insert(AUDIT_HEADS);
	const last = compiler.prepare((db) =>
		db.selectFrom('audit_heads').select(AUDIT_HEADS.columns).orderBy('size', 'desc').limit(1),
	);
	const list = compiler.prepareShapes<{ afterSize: number; limit: number }, 'up' | 'up-from' | 'down' | 'down-from'>(
		(db, slot, shape) => {
			const newestFirst = shape.startsWith('down');
			const query = db
				.selectFrom('audit_heads')
				.select(AUDIT_HEADS.columns)
				.orderBy('size', newestFirst ? 'desc' : 'asc')
				.limit(slot('limit'));
			return shape.endsWith('-from') ? query.where('size', newestFirst ? '<' : '>', slot('afterSize')) : query;
		},
	);
	return {
		*putHead(row) {
			yield insert(row);
		},
		*lastHead() {
			return AUDIT_HEADS.first(yield last({}));
		},
		*listHeads(afterSize, limit, newestFirst) {
			const direction = newestFirst ? 'down' : 'up';
			const shape = afterSize === null ? direction : (`${direction}-from` as const);
			return AUDIT_HEADS.all(yield list(shape, { afterSize: afterSize ?? 0, limit }));
		},
	};
}
