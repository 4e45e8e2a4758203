import { assert } from '../../../kit/assert.ts';
import type { AuditLog } from '../port/audit.ts';
import { auditReads, queryUnchained } from '../tables/audit-reads.ts';
import type { Compiler } from '../tables/compiler.ts';
import { AUDIT_LEAVES } from '../tables/schema.ts';

/**
 * Transactions commit out of the order in which they wrote, so no cursor over `ord` sees every leaf: those without a
 * position are listed in a table of their own, which a leaf enters in its business transaction.
 */
const APPEND = `with leaf as (
		insert into audit_leaves (id, leaf, action, target, organization, actor_is_own, at_ms)
		values ($1, $2, $3, $4, $5, $6, $7) returning ord, id
	), side as (
		insert into audit_clear (leaf_id, clear) select id, $8 from leaf where $8::text is not null
	)
	insert into audit_pending (ord) select ord from leaf`;

const UNCHAINED = `select null as "seq", null as "chain", leaf.id as "id", leaf.leaf as "leaf", side.clear as "clear",
	leaf.action as "action", leaf.target as "target", leaf.organization as "organization", leaf.actor_is_own as "actorIsOwn", leaf.at_ms as "atMs"
	from audit_pending as waiting join audit_leaves as leaf on leaf.ord = waiting.ord
	left join audit_clear as side on side.leaf_id = leaf.id where true`;

/** Row by row in this order: the trigger refuses whatever isn't the next position. */
const CHAIN = `with item as (
		select * from unnest($1::text[], $2::bigint[], $3::bytea[]) as item(id, seq, chain)
	), link as (
		insert into audit_chain (seq, ord, chain, action, target, organization)
		select item.seq, leaf.ord, item.chain, leaf.action, leaf.target, leaf.organization
		from item join audit_leaves as leaf on leaf.id = item.id order by item.seq
		returning ord
	)
	delete from audit_pending using link where audit_pending.ord = link.ord`;

export function pgAudit(compiler: Compiler): AuditLog {
	return {
		...auditReads(compiler),
		queryUnchained: queryUnchained(compiler, UNCHAINED),
		*append({ id, leaf, clear, action, target, organization, actorIsOwn, atMs }) {
			yield {
				sql: APPEND,
				parameters: [id, leaf, action, target, organization, actorIsOwn, compiler.bind(atMs), clear],
			};
		},
		*listUnchained(limit) {
			return AUDIT_LEAVES.all(yield { sql: `${UNCHAINED} order by waiting.ord limit $1`, parameters: [limit] });
		},
		*chain(rows) {
			if (rows.length === 0) return;
			const parameters = [
				rows.map((row) => row.id),
				rows.map((row) => row.seq),
				rows.map((row) => Buffer.from(row.chain)),
			];
			const { changes } = yield { sql: CHAIN, parameters };
			assert(changes === rows.length, 'a position was given to a leaf that is not in the audit log');
		},
	};
}
