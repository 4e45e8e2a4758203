import { GpuaasError } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import type { RequestContext } from '../../context.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { Challenge, RecoveryClaim } from './challenges.ts';
import type { EnrollmentDeps } from './deps.ts';
import type { Completed } from './exchange.ts';
import { fillPendingSlot, issueAgain, issueToNode } from './issue.ts';
import { look, recoveryRefusal } from './recover.ts';

/** Gives a node that was off past its expiry a new certificate, and counts it. */
export async function completeRecovery(
	deps: EnrollmentDeps,
	ctx: RequestContext,
	challenge: Challenge,
	claim: RecoveryClaim,
): Promise<Completed> {
	const seen = await deps.store.read((tx) => look(tx, claim));
	const refusal = recoveryRefusal(deps, claim, challenge.spkiSha256, seen);
	if (refusal !== undefined || seen.node === undefined) throw refusal ?? changedMeanwhile();
	const { node, pending } = seen;
	if (pending?.spkiSha256 === challenge.spkiSha256) {
		return { node, ...(await issueAgain(deps, pending, node.renewalSeq)) };
	}
	const nowMs = deps.clock.now();
	const eventId = uuidv7(nowMs, deps.rng);
	const issue = await issueToNode(deps, {
		nodeId: node.id,
		generation: node.generation,
		renewalSeq: node.renewalSeq + 1,
		csrDer: challenge.csrDer,
	});
	await deps.store.unit(function* (tx): Plan<void> {
		const patch = { renewalSeq: issue.renewalSeq, recoveries: node.recoveries + 1 };
		// The version covers every fact that the refusal was decided by.
		if ((yield* tx.nodes.update(node.id, patch, node.version)) === undefined) throw changedMeanwhile();
		yield* fillPendingSlot(tx, issue);
		yield* deps.appendAudit(tx, ctx, {
			action: 'nodes.recover',
			target: `nodes/${node.id}`,
			result: 'ok',
			reason: '',
			custody: node.custody,
			detail: { certificate: issue.row.serial, recoveries: patch.recoveries, renewal_seq: patch.renewalSeq },
		});
		yield* tx.outbox.append({ id: eventId, topic: 'certificates.changed', key: node.id, atMs: nowMs });
	});
	deps.bus.publish({ topic: 'certificates.changed', key: node.id });
	ctx.log.warn('node came back from expiry by its join state', { node: node.id, recoveries: node.recoveries + 1 });
	return { node, chain: issue.chain, joinState: issue.joinState };
}

function changedMeanwhile(): GpuaasError {
	return new GpuaasError({
		code: 'ABORTED',
		reason: 'ETAG_MISMATCH',
		message: 'the node changed while it recovered; begin again with the same key',
	});
}
