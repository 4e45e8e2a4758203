import type { Leases } from '../port/leases.ts';
import type { Compiler } from './compiler.ts';

export function leasesTable(compiler: Compiler): Leases {
	const acquire = compiler.text(
		`insert into leases (name, holder, until_ms) values (?, ?, ?)
		on conflict (name) do update set holder = excluded.holder, until_ms = excluded.until_ms
		where leases.holder = excluded.holder or leases.until_ms <= ?`,
	);
	const release = compiler.text('delete from leases where name = ? and holder = ?');
	return {
		*acquire(name, holder, nowMs, untilMs) {
			return (yield { sql: acquire, parameters: [name, holder, untilMs, nowMs] }).changes > 0;
		},
		*release(name, holder) {
			yield { sql: release, parameters: [name, holder] };
		},
	};
}
