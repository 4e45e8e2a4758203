import { create } from '@bufbuild/protobuf';
import { GpuaasError } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import { AccessService, CreateBindingResponseSchema } from '../../../proto/gen/gpuaas/iam/v1/access_pb.ts';
import type { BindingRow } from '../../store/port/access.ts';
import { asPlatform } from '../../store/port/unit.ts';
import { endWithin } from '../break-glass/lasting.ts';
import { changed } from '../iam/change.ts';
import { granterOf } from '../iam/grants.ts';
import { assertBelongs } from '../principals/belongs.ts';
import { assertHome } from '../principals/named.ts';
import { mutation } from '../use-case.ts';
import { bindingMessage, bindingName } from './binding-view.ts';
import { expiryOf } from './expiry.ts';
import { assertGrantable } from './grantable.ts';
import { supportPerson } from './support-consent.ts';

/** All of them are compiled whenever one changes; whoever needs more needs a role further up, or a group. */
export const BINDINGS_PER_PRINCIPAL_MAX = 1000;

/** Gives a principal a role at a scope and below it; one at a time, for two could each see the other's condition as it was. */
export const createBinding = mutation('scope', AccessService.method.createBinding, {
	prepare: ({ deps, nowMs }) => uuidv7(nowMs, deps.rng),
	*apply(tx, call, target, id) {
		const { request, nowMs, ctx, policy } = call;
		const scope = assertHome(policy, target);
		const { role, principalId, permissions, reason } = request;
		const expiresAtMs = endWithin(ctx.actor, expiryOf(request.expiresAt, nowMs));
		const granter = yield* granterOf(tx, call);
		const support = yield* asPlatform(supportPerson(tx, { scope, role, principalId, permissions, expiresAtMs, nowMs }));
		const principal = support ?? (yield* assertBelongs(tx, principalId, scope));
		yield* assertGrantable(tx, granter, { scope, place: target.place, role, permissions });
		if ((yield* tx.access.findBinding(principal.id, role, scope.name)) !== undefined) throw exists();
		if ((yield* asPlatform(tx.access.countBindings(principal.id))) >= BINDINGS_PER_PRINCIPAL_MAX) throw tooMany();
		const row: BindingRow = {
			id,
			principalId: principal.id,
			role,
			scope: scope.name,
			permissions: [...permissions],
			reason,
			createdAtMs: nowMs,
			createdBy: ctx.actor.id,
			expiresAtMs,
			version: 1,
		};
		yield* tx.access.insertBinding(row);
		const response = create(CreateBindingResponseSchema, { binding: bindingMessage(row, principal) });
		const detail = { principal: principal.id, role, support: support !== undefined };
		return changed(response, 'bindings.create', bindingName(row), scope.organization, detail);
	},
});

function exists(): GpuaasError {
	return new GpuaasError({
		code: 'ALREADY_EXISTS',
		reason: 'BINDING_EXISTS',
		message: 'the principal has that role there already; change the end of that binding, or delete it first',
	});
}

function tooMany(): GpuaasError {
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'TOO_MANY_BINDINGS',
		message: `a principal has at most ${BINDINGS_PER_PRINCIPAL_MAX} bindings; bind a role further up in the tree, or use a group`,
		metadata: { bindings_max: String(BINDINGS_PER_PRINCIPAL_MAX) },
	});
}
