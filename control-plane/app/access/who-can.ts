import { create } from '@bufbuild/protobuf';
import {
	AccessService,
	type Grant,
	GrantSchema,
	WhoCanRequestSchema,
	WhoCanResponseSchema,
} from '../../../proto/gen/gpuaas/iam/v1/access_pb.ts';
import type { BindingRow } from '../../store/port/access.ts';
import type { PrincipalRow } from '../../store/port/identities.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { decide } from '../iam/decide.ts';
import { type Granter, granterOf, roleSet } from '../iam/grants.ts';
import { notFound } from '../iam/not-found.ts';
import { holds } from '../iam/permissions.ts';
import { loadActor, NO_LIMITS, unusablePrincipal } from '../iam/principal.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { query } from '../use-case.ts';
import { type AskedAbout, askedAbout, questionOf } from './asked-about.ts';
import { mayExplain, mayExplainPlatform } from './explain.ts';

/** Of one group on one page; a larger group shows as itself. */
const MEMBERS_SHOWN_MAX = 1000;

/**
 * Everybody for whom the decision on a call would be yes, but for step-up: bindings at and above the object whose role
 * holds the permission, groups taken apart, each one then decided like any call. Bindings at the platform are shown to
 * whoever may explain there.
 */
export const whoCan = query('any', AccessService.method.whoCan, {
	*read(tx, call) {
		const { request, nowMs, policy } = call;
		const page = pageOf(call, WhoCanRequestSchema);
		const granter = yield* granterOf(tx, call);
		const asked = yield* askedAbout(tx, granter.view, granter.actor, request);
		const place = asked.place ?? (yield* granter.view.place(tx, 'platform'));
		if (asked.target.kind === 'missing' || place === undefined || !mayExplain(granter, place, nowMs))
			throw notFound(policy);
		const above = yield* tx.scopes.atPaths(place.ancestors);
		// Who works for the platform is the platform's own business.
		const seesPlatform = yield* mayExplainPlatform(tx, granter, nowMs);
		const scopes = above.filter(({ kind }) => seesPlatform || kind !== 'platform').map(({ name }) => name);
		const bindings = yield* tx.access.listBindingsAt({ ...page, scopes });
		const grants: Grant[] = [];
		for (const binding of bindings) grants.push(...(yield* grantsBy(tx, granter, asked, binding, nowMs)));
		return { grants, page, last: bindings.at(-1)?.id, count: bindings.length };
	},
	answer: (_call, { grants, page, last, count }) =>
		create(WhoCanResponseSchema, { grants, nextPageToken: nextPageToken(page, last, count) }),
});

function* grantsBy(
	tx: Tx,
	granter: Granter,
	asked: AskedAbout,
	binding: BindingRow,
	nowMs: number,
): Plan<readonly Grant[]> {
	const bit = asked.policy.permissionBit;
	const { set } = yield* roleSet(tx, binding.role);
	const isOver = binding.expiresAtMs !== null && binding.expiresAtMs <= nowMs;
	if (bit === undefined || isOver || !holds(set, bit)) return [];
	const principal = yield* tx.identities.getPrincipal(binding.principalId);
	if (principal === undefined || principal.deletedAtMs !== null) return [];
	const people = principal.kind === 'group' ? yield* membersOf(tx, principal.id) : [principal];
	const found: Grant[] = [];
	for (const person of people) {
		if ((yield* unusablePrincipal(tx, granter.view, person)) !== undefined) continue;
		const verified = { kind: 'none', id: '', expiresAtMs: null, limits: NO_LIMITS } as const;
		const subject = yield* loadActor(tx, granter.view, person, verified, nowMs);
		if (!decide(subject, { ...questionOf(asked, nowMs), stepUp: false }).allowed) continue;
		found.push(grantMessage(person, binding, principal));
	}
	return found;
}

function* membersOf(tx: Tx, groupId: string): Plan<readonly PrincipalRow[]> {
	const members = yield* tx.identities.listGroupMembers({ groupId, afterId: '', limit: MEMBERS_SHOWN_MAX });
	return yield* tx.identities.getPrincipals(members.map(({ principalId }) => principalId));
}

function grantMessage(person: PrincipalRow, { role, scope }: BindingRow, bound: PrincipalRow): Grant {
	return create(GrantSchema, {
		principalId: person.id,
		principalKind: person.kind,
		displayName: person.displayName,
		role,
		scope,
		through: bound.kind === 'group' ? bound.name : '',
	});
}
