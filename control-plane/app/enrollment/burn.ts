import { uuidv7 } from '../../../kit/ids.ts';
import type { RequestContext } from '../../context.ts';
import type { JoinTokenRow } from '../../store/port/join-tokens.ts';
import type { IssuingDeps } from './deps.ts';

/**
 * The secret of a token was seen where it should not be (a second key, another machine): nobody may use it any more,
 * not even for a lost answer. The node that it made before stays.
 */
export async function burnToken(
	deps: IssuingDeps,
	ctx: RequestContext,
	token: JoinTokenRow,
	reason: string,
): Promise<void> {
	const nowMs = deps.clock.now();
	const eventId = uuidv7(nowMs, deps.rng);
	await deps.store.unit(function* (tx) {
		const burned = yield* tx.joinTokens.update(token.id, { state: 'burned' }, token.state);
		if (burned === undefined) return;
		yield* deps.appendAudit(tx, ctx, {
			action: 'tokens.burn',
			target: `tokens/${token.id}`,
			result: 'denied',
			reason,
			detail: { was: token.state, node: token.nodeId ?? '' },
		});
		yield* tx.outbox.append({ id: eventId, topic: 'tokens.changed', key: token.id, atMs: nowMs });
	});
	ctx.log.error('join token burned', { token: token.id, reason, peer: ctx.peer });
	deps.bus.publish({ topic: 'tokens.changed', key: token.id });
}

/** Only for callers that proved who they are: strangers could fill the audit log; and of one of them only so many. */
export async function recordRefusal(
	deps: IssuingDeps,
	ctx: RequestContext,
	target: string,
	reason: string,
): Promise<void> {
	if ((deps.refusalRecords?.take(target) ?? 0) > 0) {
		ctx.log.warn('a refusal is not recorded: there are too many of this one', { target, reason, peer: ctx.peer });
		return;
	}
	const action = ctx.method.endsWith('RenewCertificate') ? 'certificates.renew' : 'nodes.enroll';
	await deps.store.unit(function* (tx) {
		yield* deps.appendAudit(tx, ctx, { action, target, result: 'denied', reason });
	});
}
