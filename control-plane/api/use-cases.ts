import { exportAudit } from '../app/audit/export.ts';
import { listAuditHeads } from '../app/audit/heads.ts';
import { listAuditRecords } from '../app/audit/list.ts';
import { getCertificateAuthority } from '../app/certificates/get-authority.ts';
import { listCertificates } from '../app/certificates/list.ts';
import { revokeCertificate } from '../app/certificates/revoke.ts';
import { rotateCertificateAuthority } from '../app/certificates/rotate.ts';
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
import { createToken } from '../app/tokens/create.ts';
import { listTokens } from '../app/tokens/list.ts';
import { revokeToken } from '../app/tokens/revoke.ts';
import type { UseCase } from '../app/use-case.ts';

/** What the API listener serves: one use case a method, each already behind app/use-case's wrapper. */
export const API_USE_CASES: readonly UseCase[] = [
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
	getVersion,
	getHealth,
	whoAmI,
];
