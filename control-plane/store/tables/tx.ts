import type { AuditLog } from '../port/audit.ts';
import type { Tx } from '../port/store.ts';
import type { Tasks } from '../port/tasks.ts';
import { assignmentsTable } from './assignments.ts';
import { authorityTable } from './authority.ts';
import { certificatesTable } from './certificates.ts';
import type { Compiler } from './compiler.ts';
import { identitiesTable } from './identities.ts';
import { joinTokensTable } from './join-tokens.ts';
import { leasesTable } from './leases.ts';
import { nodesTable } from './nodes.ts';
import { operationsTable } from './operations.ts';
import { outboxTable } from './outbox.ts';
import { requestKeysTable } from './request-keys.ts';
import { sessionsTable } from './sessions.ts';
import { tasksTable } from './tasks.ts';

/** What is written by hand for each dialect, because it locks or because it is hot. */
export interface ByDialect {
	readonly audit: AuditLog;
	readonly claim: Tasks['claim'];
}

export function createTx(compiler: Compiler, byDialect: ByDialect): Tx {
	return Object.freeze({
		nodes: nodesTable(compiler),
		sessions: sessionsTable(compiler),
		tasks: tasksTable(compiler, byDialect.claim),
		assignments: assignmentsTable(compiler),
		certificates: certificatesTable(compiler),
		joinTokens: joinTokensTable(compiler),
		identities: identitiesTable(compiler),
		authority: authorityTable(compiler),
		audit: byDialect.audit,
		operations: operationsTable(compiler),
		outbox: outboxTable(compiler),
		requestKeys: requestKeysTable(compiler),
		leases: leasesTable(compiler),
	});
}
