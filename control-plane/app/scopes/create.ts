import { create } from '@bufbuild/protobuf';
import { GpuaasError } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import { CreateScopeResponseSchema, ScopeService } from '../../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';
import type { ScopeKind, ScopeRow } from '../../store/port/scopes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { assertMayLast } from '../break-glass/lasting.ts';
import type { Gate } from '../gates.ts';
import { changed } from '../iam/change.ts';
import { checkedDisplayName } from '../iam/display-name.ts';
import { mutation } from '../use-case.ts';
import { assertDepth, assertNameFree, assertSkeletonFree } from './place-checks.ts';
import { assertScopeItself } from './scope-itself.ts';
import { rowKindOf, scopeMessage } from './view.ts';

/** Of one organization; what they cost is index entries, and a plan of a deletion that a person can read. */
const SCOPES_BELOW_MAX = 50_000;

/** Throws SCOPE_KIND_INVALID, TOO_MANY_SCOPES. */
const TAKES_SCOPES: Gate<'scope'> = {
	gate: 'room',
	*check(tx, { target, policy }) {
		const { kind, organization } = assertScopeItself(policy, target);
		if (kind === 'project') throw wrongKind(kind);
		// Organizations have no limit.
		if (kind !== 'platform' && (yield* tx.scopes.countBelow(`/${organization}/`)) >= SCOPES_BELOW_MAX) throw tooMany();
		return 'there is room for one more';
	},
};

/** Adds an organization, a department or a project; an organization with its first owner, if one is named. */
export const createScope = mutation('scope', ScopeService.method.createScope, {
	gates: [TAKES_SCOPES],
	prepare({ deps, ctx, nowMs, request }) {
		if (request.ownerId !== '') assertMayLast(ctx.actor, 'an owner');
		return { bindingId: uuidv7(nowMs, deps.rng), name: checkedDisplayName(request.displayName) };
	},
	*apply(tx, { request, ctx, nowMs, policy }, target, { bindingId, name }) {
		const parent = assertScopeItself(policy, target);
		const kind = rowKindOf(request.kind);
		if (kind === undefined || !mayStandIn(kind, parent.kind)) throw wrongKind(parent.kind);
		const row: ScopeRow = {
			...placeFor(kind, request.id, parent),
			...name,
			kind,
			id: request.id,
			parent: parent.name,
			state: 'active',
			stateReason: '',
			deleteAtMs: null,
			createdAtMs: nowMs,
			createdBy: ctx.actor.id,
			version: 1,
		};
		assertDepth(row.path);
		yield* assertNameFree(tx, row.name);
		yield* assertSkeletonFree(tx, row);
		yield* tx.scopes.insert(row);
		if (request.ownerId !== '') yield* makeOwner(tx, row, request.ownerId, { bindingId, by: ctx.actor.id, nowMs });
		const response = create(CreateScopeResponseSchema, { scope: scopeMessage(row) });
		return changed(response, 'scopes.create', row.name, row.organization, { kind, owner: request.ownerId });
	},
});

function mayStandIn(kind: ScopeKind, parent: ScopeKind): boolean {
	if (kind === 'organization') return parent === 'platform';
	return (kind === 'department' || kind === 'project') && (parent === 'organization' || parent === 'department');
}

function placeFor(kind: ScopeKind, id: string, parent: ScopeRow): Pick<ScopeRow, 'name' | 'organization' | 'path'> {
	if (kind === 'organization') return { name: `organizations/${id}`, organization: id, path: `/${id}/` };
	const { organization } = parent;
	const [collection, letter] = kind === 'project' ? ['projects', 'p'] : ['departments', 'd'];
	return {
		name: `organizations/${organization}/${collection}/${id}`,
		organization,
		path: `${parent.path}${letter}.${id}/`,
	};
}

/** The platform may make an organization's first owner; every later one is made by an owner. */
function* makeOwner(
	tx: Tx,
	{ name, kind, organization }: ScopeRow,
	principalId: string,
	made: { readonly bindingId: string; readonly by: string; readonly nowMs: number },
): Plan<void> {
	const person = yield* tx.identities.getPrincipal(principalId);
	const isUsable = person?.kind === 'user' && person.disabledAtMs === null && person.deletedAtMs === null;
	if (kind !== 'organization' || !isUsable) throw noOwner();
	yield* tx.identities.insertMember({ organization, principalId, joinedAtMs: made.nowMs, addedBy: made.by });
	yield* tx.access.insertBinding({
		id: made.bindingId,
		principalId,
		role: 'tenant.owner',
		scope: name,
		permissions: [],
		reason: 'first owner',
		createdAtMs: made.nowMs,
		createdBy: made.by,
		expiresAtMs: null,
		version: 1,
	});
}

function wrongKind(parent: ScopeKind): GpuaasError {
	return new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'SCOPE_KIND_INVALID',
		message: `that kind can't stand in a ${parent}; organizations stand in the platform, departments and projects in an organization or department`,
	});
}

function noOwner(): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'PRINCIPAL_NOT_FOUND',
		message:
			'the owner must be a user who isn’t suspended, and of an organization; leave it empty and invite one instead',
	});
}

function tooMany(): GpuaasError {
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'TOO_MANY_SCOPES',
		message: `an organization holds at most ${SCOPES_BELOW_MAX} departments and projects; delete some first`,
	});
}
