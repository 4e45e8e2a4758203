import type { RequestContext } from '../../context.ts';
import type { CertificateRow } from '../../store/port/certificates.ts';
import type { NodeRow } from '../../store/port/nodes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { IssuingDeps } from './deps.ts';

/**
 * First use of a pending certificate: it becomes current and the one before is superseded. Only now, because an answer
 * that carried it may have been lost, and then the agent still has only the older one. A node that was enrolling has
 * shown with this that it holds what was issued to it, and becomes available.
 */
export interface Promotion {
	readonly node: NodeRow;
	readonly pending: CertificateRow;
	readonly eventId: string;
	readonly nowMs: number;
}

export function* promote(
	deps: IssuingDeps,
	tx: Tx,
	ctx: RequestContext,
	{ node, pending, eventId, nowMs }: Promotion,
): Plan<void> {
	const { current } = yield* tx.certificates.slots(node.id);
	if (current !== undefined) yield* tx.certificates.update(current.serial, { state: 'superseded' });
	yield* tx.certificates.update(pending.serial, { state: 'current', firstUsedAtMs: nowMs });
	yield* tx.nodes.update(node.id, {
		issuerKeyIdAcked: pending.issuerKeyId,
		...(node.state === 'enrolling' ? { state: 'available' as const } : {}),
	});
	yield* deps.appendAudit(tx, ctx, {
		action: 'certificates.promote',
		target: `nodes/${node.id}`,
		result: 'ok',
		reason: '',
		custody: node.custody,
		detail: { serial: pending.serial, superseded: current?.serial ?? '' },
	});
	yield* tx.outbox.append({ id: eventId, topic: 'nodes.changed', key: node.id, atMs: nowMs });
}
