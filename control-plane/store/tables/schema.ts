import type { BindingRow, GuardrailRow, RoleRow, RoleVersionRow } from '../port/access.ts';
import type { ApiKeyRow, CredentialRow, CredentialUseRow } from '../port/api-keys.ts';
import type { AssignmentRow } from '../port/assignments.ts';
import type { AuditHeadRow, AuditLeafRow } from '../port/audit.ts';
import type { AuthorityRow } from '../port/authority.ts';
import type { CertificateRow } from '../port/certificates.ts';
import type { HealthFactRow } from '../port/health-facts.ts';
import type { GroupMemberRow, MemberRow, PrincipalRow, UserIdentityRow } from '../port/identities.ts';
import type { InventoryChangeRow, InventoryRow } from '../port/inventories.ts';
import type { InvitationRow } from '../port/invitations.ts';
import type { JoinTokenRow } from '../port/join-tokens.ts';
import type {
	HealthChangeRow,
	HealthEvidenceRow,
	HealthOverrideRow,
	NodeHealthLine,
	NodeHealthRow,
} from '../port/node-health.ts';
import type { NodeRow } from '../port/nodes.ts';
import type { OperationRow } from '../port/operations.ts';
import type { OutboxRow } from '../port/outbox.ts';
import type { RecordingRow } from '../port/recordings.ts';
import type { RequestKeyRow } from '../port/request-keys.ts';
import type { ScopeRow } from '../port/scopes.ts';
import type { SessionRow } from '../port/sessions.ts';
import type { TaskDocumentsRow, TaskRow } from '../port/tasks.ts';
import type { TerminalRow, TerminalShareRow } from '../port/terminals.ts';
import { type Columns, Table } from './columns.ts';

/** Every table and the kind of each column. migrations/ creates them; test/contract/store compares the two. */
export interface Database {
	readonly nodes: Columns<NodeRow>;
	readonly sessions: Columns<SessionRow>;
	readonly tasks: Columns<TaskRow>;
	readonly task_documents: Columns<TaskDocumentsRow>;
	readonly terminals: Columns<TerminalRow>;
	readonly terminal_shares: Columns<TerminalShareRow>;
	readonly assignments: Columns<AssignmentRow>;
	readonly certificates: Columns<CertificateRow>;
	readonly join_tokens: Columns<JoinTokenRow>;
	readonly scopes: Columns<ScopeRow>;
	readonly principals: Columns<PrincipalRow>;
	readonly user_identities: Columns<UserIdentityRow>;
	readonly members: Columns<MemberRow>;
	readonly group_members: Columns<GroupMemberRow>;
	readonly api_keys: Columns<ApiKeyRow>;
	readonly credentials: Columns<CredentialRow>;
	readonly credential_uses: Columns<CredentialUseRow>;
	readonly roles: Columns<RoleRow>;
	readonly role_versions: Columns<RoleVersionRow>;
	readonly bindings: Columns<BindingRow>;
	readonly guardrails: Columns<GuardrailRow>;
	readonly invitations: Columns<InvitationRow>;
	readonly policy: { readonly id: number; readonly epoch: number };
	readonly authority: Columns<AuthorityRow> & { readonly id: number };
	readonly audit_heads: Columns<AuditHeadRow>;
	readonly operations: Columns<OperationRow>;
	readonly outbox: Columns<OutboxRow>;
	readonly recordings: Columns<RecordingRow>;
	readonly request_keys: Columns<RequestKeyRow>;
	readonly node_inventories: Columns<InventoryRow>;
	readonly node_inventory_changes: Columns<InventoryChangeRow>;
	readonly node_health_facts: Columns<HealthFactRow>;
	readonly node_health: Columns<NodeHealthRow>;
	readonly node_health_changes: Columns<HealthChangeRow>;
	readonly node_health_evidence: Columns<HealthEvidenceRow>;
	readonly node_health_overrides: Columns<HealthOverrideRow>;
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
	organization: 'text',
	actorIsOwn: 'int',
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

export const RECORDINGS = new Table<RecordingRow>('recordings', {
	id: 'text',
	terminalId: 'text',
	part: 'int',
	nodeId: 'text',
	nodeName: 'text',
	state: 'text',
	createdBy: 'text',
	accountName: 'text',
	replicaId: 'text',
	inputRecorded: 'bool',
	custody: 'text',
	assignmentId: 'text',
	organization: 'text',
	project: 'text',
	generation: 'int',
	startedAtMs: 'int',
	endedAtMs: 'int',
	truncated: 'text',
	gaps: 'int',
	gapBytes: 'int',
	bytes: 'int',
	events: 'int',
	sha256: 'text',
	manifest: 'bytes',
	purgedAtMs: 'int',
	heldAtMs: 'int',
	holdReason: 'text',
});

export const REQUEST_KEYS = new Table<RequestKeyRow>('request_keys', {
	principalId: 'text',
	method: 'text',
	requestId: 'text',
	bodySha256: 'bytes',
	response: 'bytes',
	leafId: 'text',
	expiresAtMs: 'int',
});

export const INVENTORIES = new Table<InventoryRow>('node_inventories', {
	nodeId: 'text',
	custody: 'text',
	digest: 'text',
	inventory: 'bytes',
	receivedAtMs: 'int',
});

export const INVENTORY_CHANGES = new Table<InventoryChangeRow>('node_inventory_changes', {
	id: 'text',
	nodeId: 'text',
	custody: 'text',
	digest: 'text',
	changes: 'bytes',
	receivedAtMs: 'int',
});

export const HEALTH_FACTS = new Table<HealthFactRow>('node_health_facts', {
	id: 'text',
	nodeId: 'text',
	custody: 'text',
	factSeq: 'int',
	kind: 'text',
	subjectId: 'text',
	code: 'text',
	fact: 'bytes',
	receivedAtMs: 'int',
});

export const NODE_HEALTH = new Table<NodeHealthRow>('node_health', {
	nodeId: 'text',
	state: 'text',
	schedulable: 'bool',
	claimed: 'text',
	simulated: 'bool',
	gpus: 'int',
	policyVersion: 'text',
	sinceMs: 'int',
	verdicts: 'bytes',
	saved: 'bytes',
	factId: 'text',
	evidenceId: 'text',
	quarantinedAtMs: 'int',
	quarantineReason: 'text',
	quarantines: 'json',
	judgedAtMs: 'int',
	version: 'int',
});

export const HEALTH_LINES = new Table<NodeHealthLine>('node_health', {
	nodeId: 'text',
	state: 'text',
	schedulable: 'bool',
	claimed: 'text',
	simulated: 'bool',
	gpus: 'int',
	policyVersion: 'text',
	sinceMs: 'int',
	factId: 'text',
	evidenceId: 'text',
	quarantinedAtMs: 'int',
	quarantineReason: 'text',
	quarantines: 'json',
	judgedAtMs: 'int',
	version: 'int',
});

export const HEALTH_CHANGES = new Table<HealthChangeRow>('node_health_changes', {
	id: 'text',
	nodeId: 'text',
	custody: 'text',
	kind: 'text',
	subjectId: 'text',
	subjectIndex: 'int',
	before: 'text',
	after: 'text',
	verdict: 'bytes',
	atMs: 'int',
});

export const HEALTH_EVIDENCE = new Table<HealthEvidenceRow>('node_health_evidence', {
	id: 'text',
	nodeId: 'text',
	clearing: 'text',
	kind: 'text',
	subjectId: 'text',
	subjectIndex: 'int',
	taskId: 'text',
	reason: 'text',
	createdBy: 'text',
	atMs: 'int',
});

export const HEALTH_OVERRIDES = new Table<HealthOverrideRow>('node_health_overrides', {
	nodeId: 'text',
	schedulable: 'bool',
	reason: 'text',
	createdBy: 'text',
	createdAtMs: 'int',
	expiresAtMs: 'int',
});

export const TERMINALS = new Table<TerminalRow>('terminals', {
	id: 'text',
	nodeId: 'text',
	kind: 'text',
	tty: 'bool',
	state: 'text',
	permission: 'text',
	command: 'text',
	createdBy: 'text',
	createdByName: 'text',
	credentialId: 'text',
	account: 'text',
	purpose: 'text',
	createdAtMs: 'int',
	openedAtMs: 'int',
	closedAtMs: 'int',
	detachedAtMs: 'int',
	expiresAtMs: 'int',
	graceMs: 'int',
	idleMs: 'int',
	exitCode: 'int',
	signal: 'int',
	reason: 'text',
	message: 'text',
	custody: 'text',
	assignmentId: 'text',
	organization: 'text',
	project: 'text',
	generation: 'int',
	correlationId: 'text',
});

export const TERMINAL_SHARES = new Table<TerminalShareRow>('terminal_shares', {
	terminalId: 'text',
	principalId: 'text',
	mode: 'text',
	createdBy: 'text',
	createdAtMs: 'int',
});
