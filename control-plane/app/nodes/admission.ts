import { GpuaasError } from '../../../kit/error.ts';
import type { AssignmentRow } from '../../store/port/assignments.ts';
import type { NodeRow } from '../../store/port/nodes.ts';
import type { TargetOf } from '../iam/target.ts';

/** Whether a node takes new work, of whatever kind, and whose it then is. In the unit that makes the work. */

/**
 * The assignment that the work belongs to: that of a caller who works in its project, and any in operator mode. What
 * the platform itself does on a tenant's slice host is not the tenant's.
 */
export function ownerOf({ node, assignment, isHolder }: TargetOf['node']): AssignmentRow | undefined {
	if (assignment === undefined) return undefined;
	if (assignment.mode === 'operator' && node.custody === 'platform') return assignment;
	return isHolder ? assignment : undefined;
}

export function checkTakesWork(node: NodeRow): void {
	if (node.state === 'retired')
		throw refused('NODE_RETIRED', 'the node was removed; nothing runs there again. Choose another node');
	if (node.locked)
		throw refused(
			'NODE_LOCKED',
			"two holders of this node's identity were seen, so it gets no work; look at the host, then unlock the node",
		);
	if (node.state === 'draining')
		throw refused(
			'NODE_DRAINING',
			'the node is being drained and takes no new work; choose another node or cancel the drain',
		);
	if (node.cordoned)
		throw refused('NODE_CORDONED', 'the node is cordoned and takes no new work; choose another node or uncordon it');
}

export function checkCustody(node: NodeRow, owner: AssignmentRow | undefined): void {
	if (node.custody === 'platform' || (node.custody === 'tenant' && owner !== undefined)) return;
	throw refused(
		'NODE_IN_TENANT_CUSTODY',
		'the node is in the hands of a tenant, or was and is not yet reimaged, so it gets no task of the platform; wait until it is back in platform custody',
	);
}

function refused(reason: string, message: string): GpuaasError {
	return new GpuaasError({ code: 'FAILED_PRECONDITION', reason, message });
}
