import { assert } from '../../../kit/assert.ts';
import { hex } from '../../../kit/ids.ts';
import type { AuditLog } from '../port/audit.ts';
import { auditReads, queryUnchained } from '../tables/audit-reads.ts';
import type { Compiler } from '../tables/compiler.ts';
import { AUDIT_LEAVES } from '../tables/schema.ts';

/**
 * Units commit one after another and nothing is ever deleted, so the leaves without a position are exactly those
 * written after the last one that has one.
 */
export function sqliteAudit(compiler: Compiler): AuditLog {
	const append =
		'insert into audit_leaves (id, leaf, action, target, organization, actor_is_own, at_ms) values (?, ?, ?, ?, ?, ?, ?)';
	const appendClear = 'insert into audit_clear (leaf_id, clear) values (?, ?)';
	const unchained = `select null as "seq", null as "chain", leaf.id as "id", leaf.leaf as "leaf", side.clear as "clear",
		leaf.action as "action", leaf.target as "target", leaf.organization as "organization", leaf.actor_is_own as "actorIsOwn", leaf.at_ms as "atMs"
		from audit_leaves as leaf left join audit_clear as side on side.leaf_id = leaf.id
		where leaf.ord > coalesce((select max(ord) from audit_chain), 0)`;
	// In this order, row by row: the trigger refuses whatever isn't the next position.
	const chain = `insert into audit_chain (seq, ord, chain, action, target, organization)
		select item.value ->> 0, leaf.ord, unhex(item.value ->> 1), leaf.action, leaf.target, leaf.organization
		from json_each(?) as item cross join audit_leaves as leaf on leaf.id = item.value ->> 2 order by item.key`;
	return {
		...auditReads(compiler),
		queryUnchained: queryUnchained(compiler, unchained),
		*append({ id, leaf, clear, action, target, organization, actorIsOwn, atMs }) {
			yield { sql: append, parameters: [id, leaf, action, target, organization, actorIsOwn, compiler.bind(atMs)] };
			if (clear !== null) yield { sql: appendClear, parameters: [id, clear] };
		},
		*listUnchained(limit) {
			return AUDIT_LEAVES.all(yield { sql: `${unchained} order by leaf.ord limit ?`, parameters: [limit] });
		},
		*chain(rows) {
			if (rows.length === 0) return;
			const items = JSON.stringify(rows.map((row) => [row.seq, hex(row.chain), row.id]));
			const { changes } = yield { sql: chain, parameters: [items] };
			assert(changes === rows.length, 'a position was given to a leaf that is not in the audit log');
		},
	};
}
