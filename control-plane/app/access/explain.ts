import { create } from '@bufbuild/protobuf';
import { AccessService, ExplainResponseSchema } from '../../../proto/gen/gpuaas/iam/v1/access_pb.ts';
import type { ScopeRow } from '../../store/port/scopes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { explainGates, type GateFound, notReached } from '../gates.ts';
import { type Granter, granterOf, mayAt } from '../iam/grants.ts';
import type { CheckedPolicy } from '../iam/method-policy.ts';
import { notFound } from '../iam/not-found.ts';
import type { Place } from '../iam/place.ts';
import { loadActor, NO_LIMITS, type PrincipalActor, unusablePrincipal } from '../iam/principal.ts';
import { type GateResult, type Trace, trace } from '../iam/trace.ts';
import type { LoginSettings } from '../login/settings.ts';
import { belongs } from '../principals/belongs.ts';
import { type Call, query } from '../use-case.ts';
import { type AskedAbout, askedAbout, askedMethod, questionOf } from './asked-about.ts';
import { type Asker, laterGates, laterGatesNotReached } from './later-gates.ts';

/**
 * The decision on one call, gate by gate: of oneself with the credential in use, of others with all that they hold; then
 * what an allowed one would meet: the state of its object, the scope that it names beside that, entitlements and quotas, which
 * the call's own refusal would say just so.
 * About others only at places where the caller holds access.explain, and only about those who belong there: elsewhere it
 * reads as if there were no such object, and a stranger as if there were nobody of that id.
 */
export const explain = query('any', AccessService.method.explain, {
	*read(tx, call) {
		const { request, ctx, nowMs, policy, deps } = call;
		// First, so that what is wrong with the method says nothing about the principal.
		askedMethod(request.method);
		const granter = yield* granterOf(tx, call);
		const isOneself = request.principalId === '' || request.principalId === ctx.actor.id;
		const subject = isOneself ? granter.actor : yield* other(tx, granter, request.principalId, policy, nowMs);
		const asked = yield* askedAbout(tx, granter.view, subject, request);
		const to = request.scope === '' ? undefined : yield* scopeSeen(tx, granter, request.scope, policy, nowMs);
		const place = asked.place ?? (yield* granter.view.place(tx, 'platform'));
		// One's own trace names no gate of an object that one may not see.
		if (!isOneself && !mayExplain(granter, place, nowMs)) throw notFound(policy);
		if (!isOneself && !(yield* isSeenAt(tx, granter, subject.id, place, nowMs))) throw notFound(policy);
		const shown = trace(subject, questionOf(asked, nowMs));
		const hides = isOneself && !mayExplain(granter, place, nowMs) && !shown.decision.allowed;
		const later = yield* laterOf(tx, call, asked, shown, to, { granter, subject, nowMs });
		const gates = withEdge(shown.gates, deps.login, isOneself);
		return { decision: shown.decision, gates, later, hides, epoch: granter.view.epoch };
	},
	answer: (_call, { decision, gates, later, hides, epoch }) => {
		const failed = later.find(({ outcome }) => outcome === 'failed');
		return create(ExplainResponseSchema, {
			allowed: decision.allowed && failed === undefined,
			reason: decision.allowed ? (failed?.reason ?? '') : decision.reason,
			gates: [...gates, ...later].map(({ gate, outcome, detail }) => ({ gate, outcome, detail: hides ? '' : detail })),
			policyEpoch: BigInt(epoch),
		});
	},
});

/** Those of the use case first, then what it asks or takes elsewhere. */
function* laterOf(
	tx: Tx,
	{ deps }: Pick<Call<unknown>, 'deps'>,
	{ policy, resolve }: AskedAbout,
	{ decision }: Trace,
	to: ScopeRow | undefined,
	asker: Asker,
): Plan<readonly GateFound[]> {
	const gates = deps.methods?.get(policy.name)?.useCase.gates ?? [];
	const target = decision.allowed ? resolve(decision) : undefined;
	if (target === undefined) return [...gates.map(({ gate }) => notReached(gate)), ...laterGatesNotReached(policy.name)];
	const { subject: actor, nowMs } = asker;
	const granter = function* () {
		return { view: asker.granter.view, actor };
	};
	const found = yield* explainGates(tx, gates, { target, actor, granter, policy, deps, nowMs });
	const isToldAll = actor.id === asker.granter.actor.id || (yield* mayExplainPlatform(tx, asker.granter, nowMs));
	const own = isToldAll ? found : found.map(verdictAlone);
	if (own.some(({ outcome }) => outcome === 'failed')) return [...own, ...laterGatesNotReached(policy.name)];
	return [...own, ...(yield* laterGates(tx, policy.name, target, to, asker))];
}

/** Of somebody else: what they have may be at places of which whoever asks sees nothing. */
function verdictAlone(found: GateFound): GateFound {
	switch (found.outcome) {
		case 'failed':
			return { ...found, detail: 'they would be refused here; they can ask why themselves' };
		case 'passed':
			return { ...found, detail: 'they would pass' };
		case 'not asked':
			return { ...found, detail: 'it hangs on the rest of their request' };
		default:
			return found;
	}
}

/** Where a proxy guards the API: nobody's request comes as far as the other gates without its word. */
function withEdge(gates: readonly GateResult[], { edge }: LoginSettings, isOneself: boolean) {
	if (edge === '') return gates;
	const [authn, ...rest] = gates;
	const [outcome, detail] = isOneself
		? ['passed', `${edge} vouched for this very request`]
		: ['not asked', `${edge} must vouch for each of their requests`];
	return [...(authn === undefined ? [] : [authn]), { gate: 'edge', outcome, detail }, ...rest];
}

/** A scope that who asks may see; any other reads as none. */
function* scopeSeen(tx: Tx, granter: Granter, name: string, policy: CheckedPolicy, nowMs: number): Plan<ScopeRow> {
	const row = yield* tx.scopes.get(name);
	const place = yield* granter.view.place(tx, name);
	const isSeen = row !== undefined && place !== undefined && row.kind !== 'platform';
	if (!isSeen || !mayAt(granter, 'scopes.get', place, nowMs, { reads: true })) throw notFound(policy);
	return row;
}

export function mayExplain(granter: Granter, place: Place | undefined, nowMs: number): boolean {
	return place !== undefined && mayAt(granter, 'access.explain', place, nowMs);
}

export function* mayExplainPlatform(tx: Tx, granter: Granter, nowMs: number): Plan<boolean> {
	return mayExplain(granter, yield* granter.view.place(tx, 'platform'), nowMs);
}

/** Whether who asks can know of the principal: as one of the place's own, or as a guest who was given a role there. */
function* isSeenAt(
	tx: Tx,
	granter: Granter,
	principalId: string,
	place: Place | undefined,
	nowMs: number,
): Plan<boolean> {
	if (yield* mayExplainPlatform(tx, granter, nowMs)) return true;
	if (place === undefined) return false;
	const above = (yield* tx.scopes.atPaths(place.ancestors)).filter(({ kind }) => kind !== 'platform');
	const here = above.find(({ name }) => name === place.name);
	const principal = yield* tx.identities.getPrincipal(principalId);
	if (here === undefined || principal === undefined) return false;
	if (yield* belongs(tx, principal, here)) return true;
	const names = new Set(above.map(({ name }) => name));
	return (yield* tx.access.listBindings([principalId])).some(({ scope }) => names.has(scope));
}

function* other(tx: Tx, { view }: Granter, id: string, policy: CheckedPolicy, nowMs: number): Plan<PrincipalActor> {
	const principal = yield* tx.identities.getPrincipal(id);
	if (principal === undefined || principal.kind === 'group') throw notFound(policy);
	if ((yield* unusablePrincipal(tx, view, principal)) !== undefined) throw notFound(policy);
	return yield* loadActor(tx, view, principal, { kind: 'none', id: '', expiresAtMs: null, limits: NO_LIMITS }, nowMs);
}
