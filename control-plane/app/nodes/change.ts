import { createHash } from 'node:crypto';
import { GpuaasError } from '../../../kit/error.ts';
import type { NodePatch, NodeRow } from '../../store/port/nodes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { AuditEvent } from '../audit/event.ts';

/** What the changes of a node have in common: the update, its audit record, its event. */
export interface NodeChange {
	readonly node: NodeRow;
	readonly audit: AuditEvent;
	readonly events: readonly { readonly topic: string; readonly key: string }[];
}

/** `reason` is a person's text: it may hold names, so it is committed, not shown. */
export function* changeNode(tx: Tx, node: NodeRow, action: string, patch: NodePatch, reason: string): Plan<NodeChange> {
	const changed = yield* tx.nodes.update(node.id, patch);
	if (changed === undefined) throw nodeRetired();
	return {
		node: changed,
		audit: {
			action,
			target: `nodes/${node.id}`,
			result: 'ok',
			reason: '',
			custody: node.custody,
			detail: { name: node.name },
			...(reason === '' ? {} : { personal: { reason } }),
		},
		events: [{ topic: 'nodes.changed', key: node.id }],
	};
}

/** Only a look at a retired node makes sense. */
export function assertNotRetired(node: NodeRow): void {
	if (node.state === 'retired') throw nodeRetired();
}

function nodeRetired(): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'NODE_RETIRED',
		message: 'the node was removed and can no longer be changed; enroll its host again with a new join token',
	});
}

export function digestOfLabels(labels: Readonly<Record<string, string>>): string {
	const entries = Object.entries(labels).sort(([left], [right]) => (left < right ? -1 : 1));
	return createHash('sha256').update(JSON.stringify(entries)).digest('hex');
}
