import { GpuaasError } from '../../../kit/error.ts';
import type { HealthOverrideRow, NodeHealthLine } from '../../store/port/node-health.ts';
import type { NodeRow } from '../../store/port/nodes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';

/**
 * Whether a node may be given to somebody: an override first, then quarantine, then the verdict. A node that nobody judged
 * yet may. What was only claimed in a tenant's custody is in none of these.
 */
export type Gate =
	| { readonly isOpen: true }
	| { readonly isOpen: false; readonly reason: 'NODE_HELD' | 'NODE_QUARANTINED' | 'NODE_UNHEALTHY' };

export function gateOf(row: NodeHealthLine | undefined, override: HealthOverrideRow | undefined): Gate {
	if (override !== undefined) return override.schedulable ? { isOpen: true } : { isOpen: false, reason: 'NODE_HELD' };
	if (row === undefined) return { isOpen: true };
	if (row.quarantinedAtMs !== null) return { isOpen: false, reason: 'NODE_QUARANTINED' };
	return row.schedulable ? { isOpen: true } : { isOpen: false, reason: 'NODE_UNHEALTHY' };
}

/** Of each node, those that are in force. */
export function* overridesInForce(
	tx: Tx,
	nodeIds: readonly string[],
	nowMs: number,
): Plan<ReadonlyMap<string, HealthOverrideRow>> {
	const rows = yield* tx.nodeHealth.overridesOf(nodeIds);
	return new Map(rows.filter(({ expiresAtMs }) => expiresAtMs > nowMs).map((row) => [row.nodeId, row]));
}

/** Throws NODE_HELD, NODE_QUARANTINED or NODE_UNHEALTHY where the node may not be given to anybody. */
export function* checkHealth(tx: Tx, { id, name }: NodeRow, nowMs: number): Plan<void> {
	const [row] = yield* tx.nodeHealth.linesOfNodes([id]);
	const override = (yield* overridesInForce(tx, [id], nowMs)).get(id);
	const gate = gateOf(row, override);
	if (gate.isOpen) return;
	throw new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: gate.reason,
		message: `${sentence(gate.reason, row, override)}; look at: gpuaas node health ${name}`,
		metadata: { state: row?.state ?? '' },
	});
}

function sentence(
	reason: Extract<Gate, { readonly isOpen: false }>['reason'],
	row: NodeHealthLine | undefined,
	override: HealthOverrideRow | undefined,
): string {
	switch (reason) {
		case 'NODE_HELD':
			return `the node is held back by an override until ${new Date(override?.expiresAtMs ?? 0).toISOString()}, so nobody gets it; wait, or clear the override`;
		case 'NODE_QUARANTINED':
			return `the node is in quarantine (${row?.quarantineReason ?? ''}), so nobody gets it; it comes back by evidence, or for a while by an override (gpuaas health override set)`;
		case 'NODE_UNHEALTHY':
			return `the node is ${row?.state ?? ''}${row?.simulated === true ? ' (simulated)' : ''} by the health policy, so nobody gets it; do what the verdict asks for, or allow it for a while by an override (gpuaas health override set)`;
	}
}
