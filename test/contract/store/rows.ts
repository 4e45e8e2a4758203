import type { BindingRow } from '../../../control-plane/store/port/access.ts';
import type { CredentialRow } from '../../../control-plane/store/port/api-keys.ts';
import type { ApprovalRow } from '../../../control-plane/store/port/approvals.ts';
import type { AssignmentRow } from '../../../control-plane/store/port/assignments.ts';
import type { BrowserSessionRow } from '../../../control-plane/store/port/browser-sessions.ts';
import type { CertificateRow } from '../../../control-plane/store/port/certificates.ts';
import type { PrincipalRow, UserIdentityRow } from '../../../control-plane/store/port/identities.ts';
import type { NodeRow } from '../../../control-plane/store/port/nodes.ts';
import type { OperationRow } from '../../../control-plane/store/port/operations.ts';
import type { RecordingRow } from '../../../control-plane/store/port/recordings.ts';
import type { ScopeRow } from '../../../control-plane/store/port/scopes.ts';
import type { SessionRow } from '../../../control-plane/store/port/sessions.ts';
import type { TaskRow } from '../../../control-plane/store/port/tasks.ts';
import type { TerminalRow } from '../../../control-plane/store/port/terminals.ts';

/** Whole rows with unremarkable values, for tests that care about a few of them. */
export function nodeRow(id: string, more: Partial<NodeRow> = {}): NodeRow {
	return {
		id,
		name: `name-${id}`,
		state: 'available',
		custody: 'platform',
		generation: 1,
		cordoned: false,
		cordonReason: '',
		locked: true,
		lockReason: 'why',
		labels: { rack: 'r1', 'quo"ted': 'ü' },
		hostname: 'host',
		serial: `serial-${id}`,
		agentVersion: '0.1.0',
		bootId: 'boot',
		instanceId: 'instance',
		capabilities: ['tasks', 'terminals'],
		enrolledAtMs: 1_800_000_000_000,
		lastSeenAtMs: null,
		epoch: 0,
		fencingSeq: 0,
		factSeq: 0,
		renewalSeq: 0,
		recoveries: 0,
		bundleSeqAcked: 0,
		issuerKeyIdAcked: '',
		retiredAtMs: null,
		version: 1,
		...more,
	};
}

export function taskRow(id: string, nodeId: string, more: Partial<TaskRow> = {}): TaskRow {
	return {
		id,
		nodeId,
		state: 'queued',
		kind: 'run',
		spec: Uint8Array.of(0, 1, 255),
		createdBy: 'operator',
		attempt: 0,
		attemptsMax: 2,
		fencingToken: 0,
		timeoutMs: 1000,
		outputBytesMax: 2 ** 40,
		createdAtMs: 5,
		queueDeadlineMs: 100,
		leaseUntilMs: null,
		acceptedAtMs: null,
		startedAtMs: null,
		endedAtMs: null,
		exitCode: null,
		signal: null,
		reason: '',
		message: '',
		outputBytes: 0,
		outputDroppedBytes: 0,
		outputComplete: false,
		limitsEnforcedBy: '',
		cancelRequestedAtMs: null,
		cancelGraceMs: null,
		batchId: '',
		correlationId: 'correlation',
		custody: 'platform',
		assignmentId: null,
		organization: null,
		project: null,
		generation: 1,
		...more,
	};
}

export function sessionRow(nodeId: string, epoch: number, more: Partial<SessionRow> = {}): SessionRow {
	return {
		nodeId,
		replicaId: 'replica',
		epoch,
		instanceId: 'instance',
		connectedAtMs: 10,
		leaseUntilMs: 100,
		disconnectedAtMs: null,
		lostAtMs: null,
		...more,
	};
}

export function assignmentRow(id: string, nodeId: string, more: Partial<AssignmentRow> = {}): AssignmentRow {
	return {
		id,
		nodeId,
		sliceId: '',
		organization: 'acme',
		project: 'train',
		mode: 'host',
		generation: 1,
		fromMs: 10,
		untilMs: null,
		...more,
	};
}

export function certificateRow(serial: string, subjectId: string, more: Partial<CertificateRow> = {}): CertificateRow {
	return {
		serial,
		kind: 'node',
		subjectId,
		state: 'pending',
		spkiSha256: 'ab',
		issuerKeyId: 'issuer-1',
		generation: 1,
		notBeforeMs: 0,
		notAfterMs: 1000,
		issuedAtMs: 0,
		firstUsedAtMs: null,
		revokedAtMs: null,
		revocationReason: '',
		der: Uint8Array.of(48, 130),
		...more,
	};
}

export function operationRow(id: string, target: string, more: Partial<OperationRow> = {}): OperationRow {
	return {
		id,
		kind: 'nodes.drain',
		state: 'running',
		target,
		progress: '',
		reason: '',
		createdBy: 'operator',
		createdAtMs: 1,
		deadlineMs: 100,
		endedAtMs: null,
		data: '{}',
		...more,
	};
}

export function scopeRow(name: string, path: string, more: Partial<ScopeRow> = {}): ScopeRow {
	const [, organization = '', collection, id] = name.split('/');
	return {
		name,
		kind: collection === undefined ? 'organization' : collection === 'projects' ? 'project' : 'department',
		organization,
		id: id ?? organization,
		parent: collection === undefined ? 'platform' : `organizations/${organization}`,
		path,
		displayName: id ?? organization,
		skeleton: id ?? organization,
		state: 'active',
		stateReason: '',
		deleteAtMs: null,
		createdAtMs: 1,
		createdBy: 'operator',
		version: 1,
		...more,
	};
}

export function principalRow(id: string, more: Partial<PrincipalRow> = {}): PrincipalRow {
	return {
		id,
		kind: 'user',
		displayName: 'Ada',
		organization: null,
		home: null,
		name: '',
		email: '',
		ownerId: null,
		createdAtMs: 1,
		disabledAtMs: null,
		disabledReason: '',
		deletedAtMs: null,
		version: 1,
		...more,
	};
}

/** Seen once, with nothing but who it is. */
export function userIdentityRow(issuer: string, subject: string, principalId: string): UserIdentityRow {
	return {
		issuer,
		subject,
		principalId,
		email: '',
		emailVerified: false,
		createdAtMs: 1,
		lastLoginAtMs: 1,
		lastAcr: '',
		lastAmr: '',
		lastAuthTimeMs: null,
	};
}

export function credentialRow(id: string, principalId: string, more: Partial<CredentialRow> = {}): CredentialRow {
	const mac = new Uint8Array(32).fill(9);
	return {
		id,
		principalId,
		keyId: null,
		mac,
		pepperVersion: 1,
		createdAtMs: 1,
		expiresAtMs: 9,
		revokedAtMs: null,
		...more,
	};
}

export function bindingRow(id: string, principalId: string, more: Partial<BindingRow> = {}): BindingRow {
	return {
		id,
		principalId,
		role: 'tenant.viewer',
		scope: 'organizations/acme',
		permissions: [],
		reason: '',
		createdAtMs: 1,
		createdBy: 'operator',
		expiresAtMs: null,
		version: 1,
		...more,
	};
}

export function browserSessionRow(
	id: string,
	principalId: string,
	more: Partial<BrowserSessionRow> = {},
): BrowserSessionRow {
	return {
		id,
		secretSha256: Buffer.from(id.padEnd(32)),
		previousSha256: null,
		principalId,
		issuer: 'https://id.example',
		subject: `subject-of-${principalId}`,
		providerSession: '',
		acr: '',
		authenticatedAtMs: 1,
		sealedRefresh: null,
		createdAtMs: 1,
		rotatedAtMs: 1,
		checkedAtMs: 1,
		expiresAtMs: 1000,
		endedAtMs: null,
		endedReason: '',
		...more,
	};
}

export function recordingRow(id: string, more: Partial<RecordingRow> = {}): RecordingRow {
	return {
		id,
		terminalId: `terminal-${id}`,
		part: 1,
		nodeId: 'n1',
		nodeName: 'name-n1',
		state: 'recording',
		createdBy: 'ada',
		accountName: 'ubuntu',
		replicaId: 'replica-1',
		inputRecorded: true,
		custody: 'tenant',
		assignmentId: null,
		organization: null,
		project: null,
		generation: 3,
		startedAtMs: 10,
		endedAtMs: null,
		truncated: '',
		gaps: 2,
		gapBytes: 2 ** 40,
		bytes: 2 ** 40,
		events: 7,
		sha256: '',
		manifest: null,
		purgedAtMs: null,
		heldAtMs: null,
		holdReason: '',
		...more,
	};
}

export function terminalRow(id: string, more: Partial<TerminalRow> = {}): TerminalRow {
	return {
		id,
		nodeId: 'n1',
		kind: 'shell',
		tty: true,
		state: 'open',
		permission: 'terminals.open',
		command: 'ünix "quoted"',
		createdBy: 'ada',
		createdByName: 'Ada',
		credentialId: 'key',
		account: 'ubuntu',
		purpose: 'why',
		createdAtMs: 10,
		openedAtMs: 11,
		closedAtMs: null,
		detachedAtMs: 12,
		expiresAtMs: 2 ** 40,
		graceMs: 14_400_000,
		idleMs: 0,
		exitCode: null,
		signal: null,
		reason: '',
		message: '',
		custody: 'tenant',
		assignmentId: null,
		organization: null,
		project: null,
		generation: 3,
		correlationId: 'c',
		...more,
	};
}

export function approvalRow(id: string, more: Partial<ApprovalRow> = {}): ApprovalRow {
	return {
		id,
		requesterId: 'robot',
		scope: 'platform',
		method: 'm',
		digestSha256: new Uint8Array(32),
		summary: '{}',
		reason: '',
		state: 'pending',
		createdAtMs: 1,
		expiresAtMs: 9,
		decidedBy: null,
		decidedAtMs: null,
		decisionReason: '',
		consumedAtMs: null,
		version: 1,
		...more,
	};
}
