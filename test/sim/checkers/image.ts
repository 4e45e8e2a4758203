import Database from 'better-sqlite3';

/**
 * A committed image of the store, read with plain SQL: the checkers trust neither the store's code nor its types.
 */
export interface TaskRecord {
	readonly id: string;
	readonly node_id: string;
	readonly state: string;
	readonly attempt: number;
	readonly fencing_token: number;
	readonly started_at_ms: number | null;
	readonly ended_at_ms: number | null;
	readonly output_complete: number;
	readonly reason: string;
}

export interface NodeRecord {
	readonly id: string;
	readonly name: string;
	readonly epoch: number;
	readonly fencing_seq: number;
	readonly fact_seq: number;
	readonly generation: number;
	readonly renewal_seq: number;
	readonly locked: number;
}

export interface DocumentRecord {
	readonly task_id: string;
	readonly attempt: number;
	readonly envelope: Uint8Array | null;
	readonly receipt: Uint8Array | null;
	readonly closing: Uint8Array | null;
	readonly signer_certificate: Uint8Array | null;
}

export interface LeafRecord {
	readonly ord: number;
	readonly id: string;
	readonly leaf: Uint8Array;
	readonly action: string;
	readonly target: string;
}

export interface ChainRecord {
	readonly seq: number;
	readonly ord: number;
	readonly chain: Uint8Array;
}

export interface Image {
	readonly tasks: ReadonlyMap<string, TaskRecord>;
	readonly nodes: ReadonlyMap<string, NodeRecord>;
	readonly documents: ReadonlyMap<string, DocumentRecord>;
	readonly leaves: readonly LeafRecord[];
	readonly chain: readonly ChainRecord[];
	/** Newest last. */
	readonly heads: readonly { readonly size: number; readonly note: string }[];
	readonly sessions: ReadonlyMap<string, { readonly epoch: number }>;
	readonly openOutbox: number;
	/** Of an organization, where it differs from what is open: what quotas say, and what the rows say. */
	readonly miscounted: readonly { readonly kind: string; readonly counted: number; readonly there: number }[];
	/** Of the audit key, SPKI DER in base64; empty before there is an authority. */
	readonly auditKeySpki: string;
}

const MISCOUNTED = `select kind, used + reserved as counted, there from (
	select quotas.*, case kind
		when 'tasks' then (select count(*) from tasks where tasks.organization = quotas.organization
			and state in ('queued', 'leased', 'running', 'cancelling'))
		else (select count(*) from assignments where assignments.organization = quotas.organization and until_ms is null)
	end as there from quotas where kind in ('tasks', 'nodes') and scope = 'organizations/' || organization
) where used + reserved <> there`;

export function readImage(bytes: Uint8Array): Image {
	const database = new Database(Buffer.from(bytes));
	try {
		const all = <T>(sql: string): T[] => database.prepare(sql).all() as T[];
		const by = <T, K>(rows: readonly T[], key: (row: T) => K) => new Map(rows.map((row) => [key(row), row]));
		const [authority] = all<{ document: string }>('select document from authority');
		const document =
			authority === undefined ? {} : (JSON.parse(authority.document) as { auditKey?: { spki?: string } });
		return {
			tasks: by(all<TaskRecord>('select * from tasks order by id'), ({ id }) => id),
			nodes: by(all<NodeRecord>('select * from nodes order by id'), ({ id }) => id),
			documents: by(
				all<DocumentRecord>('select * from task_documents'),
				({ task_id: taskId, attempt }) => `${taskId}/${attempt}`,
			),
			leaves: all<LeafRecord>('select * from audit_leaves order by ord'),
			chain: all<ChainRecord>('select * from audit_chain order by seq'),
			heads: all<{ size: number; note: string }>('select size, note from audit_heads order by size'),
			sessions: by(
				all<{ node_id: string; epoch: number }>('select node_id, epoch from sessions'),
				({ node_id: nodeId }) => nodeId,
			),
			openOutbox: all('select id from outbox').length,
			miscounted: all(MISCOUNTED),
			auditKeySpki: document.auditKey?.spki ?? '',
		};
	} finally {
		database.close();
	}
}
