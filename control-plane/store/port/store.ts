import type { Access } from './access.ts';
import type { ApiKeys } from './api-keys.ts';
import type { Approvals } from './approvals.ts';
import type { Assignments } from './assignments.ts';
import type { AuditLog } from './audit.ts';
import type { Authority } from './authority.ts';
import type { BreakGlass } from './break-glass.ts';
import type { BrowserSessions } from './browser-sessions.ts';
import type { Certificates } from './certificates.ts';
import type { Entitlements } from './entitlements.ts';
import type { Features } from './features.ts';
import type { HealthFacts } from './health-facts.ts';
import type { Identities } from './identities.ts';
import type { Inventories } from './inventories.ts';
import type { Invitations } from './invitations.ts';
import type { JoinTokens } from './join-tokens.ts';
import type { Leases } from './leases.ts';
import type { Logins } from './logins.ts';
import type { NodeHealth } from './node-health.ts';
import type { Nodes } from './nodes.ts';
import type { Operations } from './operations.ts';
import type { Outbox } from './outbox.ts';
import type { Quotas } from './quotas.ts';
import type { Recordings } from './recordings.ts';
import type { RequestKeys } from './request-keys.ts';
import type { Scopes } from './scopes.ts';
import type { Sessions } from './sessions.ts';
import type { Tasks } from './tasks.ts';
import type { Terminals } from './terminals.ts';
import type { Plan } from './unit.ts';

/**
 * The only truth. One port, two dialects (SQLite, PostgreSQL), one contract suite (test/contract/store).
 *
 * Times are ms since the epoch, sizes bytes, unless a name says otherwise. `null` is SQL NULL. Every list is bounded
 * by its `limit`. Errors: GpuaasError STORE_UNAVAILABLE (try again), ALREADY_EXISTS (unique), DISK_FULL.
 */
export interface Store extends AsyncDisposable {
	readonly dialect: 'sqlite' | 'postgres';
	/**
	 * Runs `plan` as one unit of work and resolves after it is durable. A plan that throws rolls back alone and rejects
	 * with what it threw. Units that wait while another commit is under way share the next commit.
	 */
	unit<T>(plan: (tx: Tx) => Plan<T>, options?: UnitOptions): Promise<T>;
	/** Runs a plan that only reads, on one snapshot. */
	read<T>(plan: (tx: Tx) => Plan<T>, options?: ReadOptions): Promise<T>;
	/** Rejects when the store can't commit now: for readiness. */
	check(): Promise<void>;
	/** Rejects when the database does not keep tenants apart as it should: for readiness. Gives what to see to though it does. */
	checkIsolation(): Promise<string | undefined>;
	/** The store's own clock in ms since the epoch, never decreasing: what leases and usage are measured with. */
	now(): Promise<number>;
}

/** For whom a tenant's unit or read works: on PostgreSQL row security holds it to these. */
export interface Tenancy {
	/** Ids of the organizations whose rows it may see and change. */
	readonly organizations: readonly string[];
	/** Who works, for rows that are a person's own. */
	readonly principalId: string;
}

export interface ReadOptions {
	/** Absent: the platform's own work, which sees all rows. */
	readonly tenancy?: Tenancy;
}

export interface UnitOptions extends ReadOptions {
	/**
	 * Of interest on PostgreSQL only: on SQLite units run one after another. `locking` (default): a row that a unit reads
	 * by its key is locked until the commit, and so is what it changes; a condition over several rows ("none is open")
	 * holds only if a unique index keeps it, or if all who change it read one row first, as the node's. `serializable`:
	 * every condition holds, at the price of running the plan again after a conflict; for rare units only.
	 */
	readonly isolation?: 'locking' | 'serializable';
}

export interface Tx {
	readonly nodes: Nodes;
	readonly sessions: Sessions;
	readonly tasks: Tasks;
	readonly terminals: Terminals;
	readonly assignments: Assignments;
	readonly certificates: Certificates;
	readonly joinTokens: JoinTokens;
	readonly scopes: Scopes;
	readonly identities: Identities;
	readonly apiKeys: ApiKeys;
	readonly access: Access;
	readonly invitations: Invitations;
	readonly logins: Logins;
	readonly browserSessions: BrowserSessions;
	readonly approvals: Approvals;
	readonly breakGlass: BreakGlass;
	readonly authority: Authority;
	readonly audit: AuditLog;
	readonly operations: Operations;
	readonly outbox: Outbox;
	readonly recordings: Recordings;
	readonly requestKeys: RequestKeys;
	readonly leases: Leases;
	readonly inventories: Inventories;
	readonly healthFacts: HealthFacts;
	readonly quotas: Quotas;
	readonly entitlements: Entitlements;
	readonly features: Features;
	readonly nodeHealth: NodeHealth;
}
