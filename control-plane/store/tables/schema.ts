import type { AssignmentRow } from '../port/assignments.ts';
import type { AuditHeadRow, AuditLeafRow } from '../port/audit.ts';
import type { AuthorityRow } from '../port/authority.ts';
import type { CertificateRow } from '../port/certificates.ts';
import type { BindingRow, CredentialRow, PrincipalRow } from '../port/identities.ts';
import type { JoinTokenRow } from '../port/join-tokens.ts';
import type { NodeRow } from '../port/nodes.ts';
import type { OperationRow } from '../port/operations.ts';
import type { OutboxRow } from '../port/outbox.ts';
import type { RequestKeyRow } from '../port/request-keys.ts';
import type { SessionRow } from '../port/sessions.ts';
import type { TaskDocumentsRow, TaskRow } from '../port/tasks.ts';
import { type Columns, Table } from './columns.ts';

/** Every table and the kind of each column. migrations/ creates them; test/contract/store compares the two. */
export interface Database {
	readonly nodes: Columns<NodeRow>;
	readonly sessions: Columns<SessionRow>;
	readonly tasks: Columns<TaskRow>;
	readonly task_documents: Columns<TaskDocumentsRow>;
	readonly assignments: Columns<AssignmentRow>;
	readonly certificates: Columns<CertificateRow>;
	readonly join_tokens: Columns<JoinTokenRow>;
	readonly principals: Columns<PrincipalRow>;
	readonly credentials: Columns<CredentialRow>;
	readonly bindings: Columns<BindingRow>;
	readonly policy: { readonly id: number; readonly epoch: number };
	readonly authority: Columns<AuthorityRow> & { readonly id: number };
	readonly audit_heads: Columns<AuditHeadRow>;
	readonly operations: Columns<OperationRow>;
	readonly outbox: Columns<OutboxRow>;
	readonly request_keys: Columns<RequestKeyRow>;
	readonly leases: { readonly name: string; readonly holder: string; readonly until_ms: number };
}

export const NODES = new Table<NodeRow>('nodes', {
	id: 'text',
	name: 'text',
	state: 'text',
	custody: 'text',
	generation: 'int',
	cordoned: 'bool',
	cordonReason: 'text',
	locked: 'bool',
	lockReason: 'text',
	labels: 'json',
	hostname: 'text',
	serial: 'text',
	agentVersion: 'text',
	bootId: 'text',
	instanceId: 'text',
	capabilities: 'json',
	enrolledAtMs: 'int',
	lastSeenAtMs: 'int',
	epoch: 'int',
	fencingSeq: 'int',
	factSeq: 'int',
	renewalSeq: 'int',
	recoveries: 'int',
	bundleSeqAcked: 'int',
	issuerKeyIdAcked: 'text',
	retiredAtMs: 'int',
	version: 'int',
});

export const SESSIONS = new Table<SessionRow>('sessions', {
	nodeId: 'text',
	replicaId: 'text',
	epoch: 'int',
	instanceId: 'text',
	connectedAtMs: 'int',
	leaseUntilMs: 'int',
	disconnectedAtMs: 'int',
	lostAtMs: 'int',
});

export const TASKS = new Table<TaskRow>('tasks', {
	id: 'text',
	nodeId: 'text',
	state: 'text',
	kind: 'text',
	spec: 'bytes',
	createdBy: 'text',
	attempt: 'int',
	attemptsMax: 'int',
	fencingToken: 'int',
	timeoutMs: 'int',
	outputBytesMax: 'int',
	createdAtMs: 'int',
	queueDeadlineMs: 'int',
	leaseUntilMs: 'int',
	acceptedAtMs: 'int',
	startedAtMs: 'int',
	endedAtMs: 'int',
	exitCode: 'int',
	signal: 'int',
	reason: 'text',
	message: 'text',
	outputBytes: 'int',
	outputDroppedBytes: 'int',
	outputComplete: 'bool',
	limitsEnforcedBy: 'text',
	cancelRequestedAtMs: 'int',
	cancelGraceMs: 'int',
	batchId: 'text',
	correlationId: 'text',
	custody: 'text',
	assignmentId: 'text',
	organization: 'text',
	project: 'text',
	generation: 'int',
});

export const TASK_DOCUMENTS = new Table<TaskDocumentsRow>('task_documents', {
	taskId: 'text',
	attempt: 'int',
	envelope: 'bytes',
	receipt: 'bytes',
	closing: 'bytes',
	nodeCertificate: 'bytes',
	signerCertificate: 'bytes',
});

export const ASSIGNMENTS = new Table<AssignmentRow>('assignments', {
	id: 'text',
	nodeId: 'text',
	sliceId: 'text',
	organization: 'text',
	project: 'text',
	mode: 'text',
	generation: 'int',
	fromMs: 'int',
	untilMs: 'int',
});

export const CERTIFICATES = new Table<CertificateRow>('certificates', {
	serial: 'text',
	kind: 'text',
	subjectId: 'text',
	state: 'text',
	spkiSha256: 'text',
	issuerKeyId: 'text',
	generation: 'int',
	notBeforeMs: 'int',
	notAfterMs: 'int',
	issuedAtMs: 'int',
	firstUsedAtMs: 'int',
	revokedAtMs: 'int',
	revocationReason: 'text',
	der: 'bytes',
});

export const JOIN_TOKENS = new Table<JoinTokenRow>('join_tokens', {
	id: 'text',
	state: 'text',
	publicKey: 'bytes',
	nodeName: 'text',
	labels: 'json',
	expectedSerial: 'text',
	createdAtMs: 'int',
	expiresAtMs: 'int',
	createdBy: 'text',
	nodeId: 'text',
	usedBySpkiSha256: 'text',
});

export const PRINCIPALS = new Table<PrincipalRow>('principals', {
	id: 'text',
	kind: 'text',
	displayName: 'text',
	createdAtMs: 'int',
	disabledAtMs: 'int',
});

export const CREDENTIALS = new Table<CredentialRow>('credentials', {
	id: 'text',
	principalId: 'text',
	mac: 'bytes',
	pepperVersion: 'int',
	createdAtMs: 'int',
	expiresAtMs: 'int',
	revokedAtMs: 'int',
});

export const BINDINGS = new Table<BindingRow>('bindings', {
	id: 'text',
	principalId: 'text',
	role: 'text',
	scope: 'text',
	expiresAtMs: 'int',
});

export const AUTHORITY = new Table<AuthorityRow>('authority', { version: 'int', document: 'text' });

/** A join of three tables, see audit.ts of each dialect. */
export const AUDIT_LEAVES = new Table<AuditLeafRow>('audit_leaves', {
	seq: 'int',
	id: 'text',
	leaf: 'bytes',
	chain: 'bytes',
	clear: 'text',
	action: 'text',
	target: 'text',
	atMs: 'int',
});

export const AUDIT_HEADS = new Table<AuditHeadRow>('audit_heads', { size: 'int', note: 'text', atMs: 'int' });

export const OPERATIONS = new Table<OperationRow>('operations', {
	id: 'text',
	kind: 'text',
	state: 'text',
	target: 'text',
	progress: 'text',
	reason: 'text',
	createdBy: 'text',
	createdAtMs: 'int',
	deadlineMs: 'int',
	endedAtMs: 'int',
	data: 'text',
});

export const OUTBOX = new Table<OutboxRow>('outbox', { id: 'text', topic: 'text', key: 'text', atMs: 'int' });

export const REQUEST_KEYS = new Table<RequestKeyRow>('request_keys', {
	principalId: 'text',
	method: 'text',
	requestId: 'text',
	bodySha256: 'bytes',
	response: 'bytes',
	expiresAtMs: 'int',
});
