import { CloseCode } from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { RequestContext } from '../../context.ts';
import type { NodeRow } from '../../store/port/nodes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { IssuingDeps } from './deps.ts';

/**
 * Two holders of one identity were seen: a restored disk, a copied state folder, a virtual machine started twice, or a
 * stolen key. That node alone is locked (not its token, project or certificate authority), with an audit record; an
 * operator looks at both hosts, unlocks the node, and enrolls the right one again with a token that names it.
 */
export interface CloneSignal {
	readonly node: NodeRow;
	/** The certificate that was shown and should not exist any more. */
	readonly serial: string;
	/** `new stream`, `renewal`, `recovery`. */
	readonly seenAt: string;
	readonly eventId: string;
	readonly nowMs: number;
}

export function* lockClone(deps: IssuingDeps, tx: Tx, ctx: RequestContext, signal: CloneSignal): Plan<void> {
	const { node, serial, seenAt, eventId, nowMs } = signal;
	if (node.locked) return;
	const lockReason = `two holders of its identity: the superseded certificate ${serial.slice(0, 16)} was presented on a ${seenAt}`;
	yield* tx.nodes.update(node.id, { locked: true, lockReason });
	yield* deps.appendAudit(tx, ctx, {
		action: 'nodes.lock',
		target: `nodes/${node.id}`,
		result: 'ok',
		reason: 'CERTIFICATE_SUPERSEDED',
		custody: node.custody,
		detail: { serial, seen_at: seenAt, cause: 'clone' },
	});
	yield* tx.outbox.append({ id: eventId, topic: 'nodes.changed', key: node.id, atMs: nowMs });
}

/** After the commit. */
export function announceLock(
	deps: Pick<IssuingDeps, 'bus' | 'sessions'>,
	ctx: RequestContext,
	node: NodeRow,
	serial: string,
): void {
	deps.bus.publish({ topic: 'nodes.changed', key: node.id });
	deps.sessions.close(node.id, CloseCode.LOCKED, `node ${node.name} was locked: two holders of its identity were seen`);
	ctx.log.error('node locked: two holders of its identity', { node: node.id, serial });
}
