import type { Clock } from '../../../kit/clock.ts';
import { type Rng, uuidv7 } from '../../../kit/ids.ts';
import type { Actor, RequestContext } from '../../context.ts';
import type { Tx } from '../../store/port/store.ts';
import { asPlatform, type Plan } from '../../store/port/unit.ts';
import type { PrincipalActor } from '../iam/principal.ts';
import type { AppendAudit, AuditEvent } from './event.ts';
import { sealLeaf } from './leaf.ts';

/**
 * Writes the record of a change in the change's own unit: if it can't be written, the change isn't either. Its position
 * in the chain comes later, from the sequencer. The caller's name and address are personal and therefore committed.
 */
export function createAppendAudit(deps: { readonly clock: Clock; readonly rng: Rng }): AppendAudit {
	return function* appendAudit(tx: Tx, ctx: RequestContext, event: AuditEvent): Plan<string> {
		const atMs = deps.clock.now();
		const id = uuidv7(atMs, deps.rng);
		const { actor } = ctx;
		const { leaf, clear } = sealLeaf(
			{
				id,
				atMs,
				actor: { kind: actor.kind, id: actor.id, credentialId: actor.credentialId },
				action: event.action,
				target: event.target,
				result: event.result,
				reason: event.reason,
				method: ctx.method,
				correlationId: ctx.correlationId,
				requestId: ctx.requestId,
				organization: event.organization ?? '',
				custody: event.custody ?? '',
				beforeSha256: event.beforeSha256 ?? '',
				afterSha256: event.afterSha256 ?? '',
				detail: event.detail ?? {},
				personal: {
					...event.personal,
					// A part of ours has no name that needs hiding, and is most of the log.
					...(actor.kind === 'system' ? {} : { actor: actor.displayName, peer: ctx.peer }),
				},
			},
			deps.rng,
		);
		const organization = event.organization === undefined || event.organization === '' ? null : event.organization;
		// The log is the platform's, whoever's deed it holds: no tenant's unit can write to it otherwise.
		const actorIsOwn = organization === null ? null : Number(isOf(actor, organization));
		const row = { id, leaf, clear, action: event.action, target: event.target, organization, actorIsOwn, atMs };
		yield* asPlatform(tx.audit.append(row));
		return id;
	};
}

/** Whether an organization may know the actor of its record by name; a part of ours and a node have none to hide. */
function isOf(actor: Actor & Partial<Pick<PrincipalActor, 'organizations'>>, organization: string): boolean {
	if (actor.kind === 'system' || actor.kind === 'node') return true;
	return actor.organizations?.includes(organization) === true;
}
