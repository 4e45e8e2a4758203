import type { AuditLog } from '../port/audit.ts';
import type { Tx } from '../port/store.ts';
import type { Tasks } from '../port/tasks.ts';
import { accessTable } from './access.ts';
import { apiKeysTable } from './api-keys.ts';
import { approvalsTable } from './approvals.ts';
import { assignmentsTable } from './assignments.ts';
import { authorityTable } from './authority.ts';
import { breakGlassTable } from './break-glass.ts';
import { browserSessionsTable } from './browser-sessions.ts';
import { certificatesTable } from './certificates.ts';
import type { Compiler } from './compiler.ts';
import { entitlementsTable } from './entitlements.ts';
import { featuresTable } from './features.ts';
import { healthFactsTable } from './health-facts.ts';
import { identitiesTable } from './identities.ts';
import { inventoriesTable } from './inventories.ts';
import { invitationsTable } from './invitations.ts';
import { joinTokensTable } from './join-tokens.ts';
import { leasesTable } from './leases.ts';
import { loginsTable } from './logins.ts';
import { nodeHealthTable } from './node-health.ts';
import { nodesTable } from './nodes.ts';
import { operationsTable } from './operations.ts';
import { outboxTable } from './outbox.ts';
import { quotasTable } from './quotas.ts';
import { recordingsTable } from './recordings.ts';
import { requestKeysTable } from './request-keys.ts';
import { scopesTable } from './scopes.ts';
import { sessionsTable } from './sessions.ts';
import { tasksTable } from './tasks.ts';
import { terminalsTable } from './terminals.ts';

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
		terminals: terminalsTable(compiler),
		assignments: assignmentsTable(compiler),
		certificates: certificatesTable(compiler),
		joinTokens: joinTokensTable(compiler),
		scopes: scopesTable(compiler),
		identities: identitiesTable(compiler),
		apiKeys: apiKeysTable(compiler),
		access: accessTable(compiler),
		invitations: invitationsTable(compiler),
		logins: loginsTable(compiler),
		browserSessions: browserSessionsTable(compiler),
		approvals: approvalsTable(compiler),
		breakGlass: breakGlassTable(compiler),
		authority: authorityTable(compiler),
		audit: byDialect.audit,
		operations: operationsTable(compiler),
		outbox: outboxTable(compiler),
		recordings: recordingsTable(compiler),
		requestKeys: requestKeysTable(compiler),
		leases: leasesTable(compiler),
		inventories: inventoriesTable(compiler),
		healthFacts: healthFactsTable(compiler),
		quotas: quotasTable(compiler),
		entitlements: entitlementsTable(compiler),
		features: featuresTable(compiler),
		nodeHealth: nodeHealthTable(compiler),
	});
}
