import { createApproval } from '../app/approvals/create.ts';
import { approveApproval, rejectApproval } from '../app/approvals/decide.ts';
import { listApprovals } from '../app/approvals/list.ts';
import { exportAudit } from '../app/audit/export.ts';
import { listAuditHeads } from '../app/audit/heads.ts';
import { listAuditRecords } from '../app/audit/list.ts';
import { beginBreakGlass } from '../app/break-glass/begin.ts';
import { completeBreakGlass } from '../app/break-glass/complete.ts';
import { endBreakGlass } from '../app/break-glass/end.ts';
import { listBreakGlassKeys, registerBreakGlassKey, removeBreakGlassKey } from '../app/break-glass/keys.ts';
import { getCertificateAuthority } from '../app/certificates/get-authority.ts';
import { listCertificates } from '../app/certificates/list.ts';
import { revokeCertificate } from '../app/certificates/revoke.ts';
import { rotateCertificateAuthority } from '../app/certificates/rotate.ts';
import { getNodeHealth } from '../app/health/get.ts';
import { getNodeHealthRecords } from '../app/health/get-records.ts';
import { injectNodeFault } from '../app/health/inject-fault.ts';
import { listNodeHealth } from '../app/health/list.ts';
import { clearNodeHealthOverride, setNodeHealthOverride } from '../app/health/override.ts';
import { recordNodeHealthEvidence } from '../app/health/record-evidence.ts';
import { acceptInvitation } from '../app/login/accept-invitation.ts';
import { createLoginDomain, deleteLoginDomain, listLoginDomains } from '../app/login/domains.ts';
import { endLogin } from '../app/login/end.ts';
import { getLoginOptions } from '../app/login/options.ts';
import { assignNode } from '../app/nodes/assign.ts';
import { cordonNode, uncordonNode } from '../app/nodes/cordon.ts';
import { drainNode } from '../app/nodes/drain.ts';
import { explainNode } from '../app/nodes/explain.ts';
import { getNode } from '../app/nodes/get.ts';
import { listNodes } from '../app/nodes/list.ts';
import { removeNode } from '../app/nodes/remove.ts';
import { setNodeLabels } from '../app/nodes/set-labels.ts';
import { unassignNode } from '../app/nodes/unassign.ts';
import { unlockNode } from '../app/nodes/unlock.ts';
import { cancelOperation } from '../app/operations/cancel.ts';
import { getOperation } from '../app/operations/get.ts';
import { listOperations } from '../app/operations/list.ts';
import { getRecording } from '../app/recordings/get.ts';
import { holdRecording, releaseRecording } from '../app/recordings/hold.ts';
import { listRecordings } from '../app/recordings/list.ts';
import { readRecording } from '../app/recordings/read.ts';
import { getHealth } from '../app/system/health.ts';
import { getVersion } from '../app/system/version.ts';
import { whoAmI } from '../app/system/who-am-i.ts';
import { cancelTask } from '../app/tasks/cancel.ts';
import { createTask } from '../app/tasks/create.ts';
import { followTask } from '../app/tasks/follow.ts';
import { getTask } from '../app/tasks/get.ts';
import { listTasks } from '../app/tasks/list.ts';
import { listTaskOutput } from '../app/tasks/list-output.ts';
import { getTaskReceipt } from '../app/tasks/receipt.ts';
import { getNodeInventory } from '../app/telemetry/get-inventory.ts';
import { getNodeTelemetry } from '../app/telemetry/get-node.ts';
import { getProjectMetrics } from '../app/telemetry/get-project-metrics.ts';
import { listNodeTelemetry } from '../app/telemetry/list-nodes.ts';
import { queryTelemetryHistory } from '../app/telemetry/query-history.ts';
import { requestFastTelemetry } from '../app/telemetry/request-fast.ts';
import { watchNodeTelemetry } from '../app/telemetry/watch-node.ts';
import { attachTerminal } from '../app/terminals/attach.ts';
import { readFiles, writeFiles } from '../app/terminals/copy-files.ts';
import { forwardPort } from '../app/terminals/forward-port.ts';
import { getTerminal } from '../app/terminals/get.ts';
import { killTerminal } from '../app/terminals/kill.ts';
import { listTerminals } from '../app/terminals/list.ts';
import { observeTerminal } from '../app/terminals/observe.ts';
import { openTerminal } from '../app/terminals/open.ts';
import { shareTerminal } from '../app/terminals/share.ts';
import { createToken } from '../app/tokens/create.ts';
import { listTokens } from '../app/tokens/list.ts';
import { revokeToken } from '../app/tokens/revoke.ts';
import type { UseCase } from '../app/use-case.ts';
import { IAM_USE_CASES } from './iam-use-cases.ts';

/** What the API listener serves: one use case a method, each already behind app/use-case's wrapper. */
export const API_USE_CASES: readonly UseCase[] = [
	...IAM_USE_CASES,
	listNodes,
	getNode,
	explainNode,
	setNodeLabels,
	cordonNode,
	uncordonNode,
	drainNode,
	assignNode,
	unassignNode,
	unlockNode,
	removeNode,
	createTask,
	getTask,
	listTasks,
	cancelTask,
	listTaskOutput,
	followTask,
	getTaskReceipt,
	readFiles,
	writeFiles,
	forwardPort,
	listRecordings,
	getRecording,
	readRecording,
	holdRecording,
	releaseRecording,
	openTerminal,
	getTerminal,
	listTerminals,
	attachTerminal,
	observeTerminal,
	shareTerminal,
	killTerminal,
	createToken,
	listTokens,
	revokeToken,
	getOperation,
	listOperations,
	cancelOperation,
	listAuditRecords,
	exportAudit,
	listAuditHeads,
	listCertificates,
	revokeCertificate,
	getCertificateAuthority,
	rotateCertificateAuthority,
	listNodeTelemetry,
	getNodeTelemetry,
	getProjectMetrics,
	watchNodeTelemetry,
	queryTelemetryHistory,
	requestFastTelemetry,
	getNodeInventory,
	listNodeHealth,
	getNodeHealth,
	getNodeHealthRecords,
	setNodeHealthOverride,
	clearNodeHealthOverride,
	recordNodeHealthEvidence,
	injectNodeFault,
	getVersion,
	getHealth,
	whoAmI,
	getLoginOptions,
	acceptInvitation,
	endLogin,
	createLoginDomain,
	listLoginDomains,
	deleteLoginDomain,
	createApproval,
	listApprovals,
	approveApproval,
	rejectApproval,
	registerBreakGlassKey,
	removeBreakGlassKey,
	listBreakGlassKeys,
	beginBreakGlass,
	completeBreakGlass,
	endBreakGlass,
];
