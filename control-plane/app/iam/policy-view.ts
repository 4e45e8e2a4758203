import { assert } from '../../../kit/assert.ts';
import type { GuardrailRow, RoleRow } from '../../store/port/access.ts';
import type { ScopeRow } from '../../store/port/scopes.ts';
import type { Tx } from '../../store/port/store.ts';
import { asPlatform, type Plan } from '../../store/port/unit.ts';
import { type Access, compileAccess } from './access.ts';
import { heldBindings } from './held-bindings.ts';
import { holds } from './permissions.ts';
import { ancestorsOf, forbiddenBy, type GuardedKind, type Place, placeOf } from './place.ts';

/** Few by their nature; past it nothing more can be set (guardrails/create.ts). */
export const GUARDRAILS_MAX = 1000;
/** Places and principals that are remembered; past it they are all forgotten. */
const ENTRIES_MAX = 50_000;

interface PlacedRule {
	readonly rule: GuardrailRow;
	readonly path: string;
	readonly forbidden: Place['forbidden'];
}

/**
 * Compiled policy as of one epoch, filled as it is asked for. Everything in it was read under that epoch, so whoever
 * finds the same epoch in the store may use it without reading again. It is shared by all callers, so it is read as the
 * platform's: through one tenant's eyes it would lack what binds another.
 */
export class PolicyView {
	readonly epoch: number;
	readonly #places = new Map<string, Place | undefined>();
	readonly #accesses = new Map<string, Access>();
	#rules: readonly PlacedRule[] | undefined;

	constructor(epoch: number) {
		this.epoch = epoch;
	}

	/** Undefined when there is no such scope. */
	*place(tx: Tx, name: string): Plan<Place | undefined> {
		if (this.#places.has(name)) return this.#places.get(name);
		const place = yield* asPlatform(this.#find(tx, name));
		if (this.#places.size >= ENTRIES_MAX) this.#places.clear();
		// Names that nobody has are not kept: they come from requests and are without number.
		if (place !== undefined) this.#places.set(name, place);
		return place;
	}

	*#find(tx: Tx, name: string): Plan<Place | undefined> {
		const [scope] = yield* tx.scopes.getMany([name]);
		return scope === undefined ? undefined : yield* this.#compile(tx, scope);
	}

	*#compile(tx: Tx, scope: ScopeRow): Plan<Place> {
		const chain = yield* tx.scopes.atPaths(ancestorsOf(scope.path));
		const rules = (yield* this.rules(tx)).map(({ rule }) => rule);
		return placeOf(scope, chain, rules);
	}

	*rules(tx: Tx): Plan<readonly PlacedRule[]> {
		this.#rules ??= yield* asPlatform(this.#readRules(tx));
		return this.#rules;
	}

	*#readRules(tx: Tx): Plan<readonly PlacedRule[]> {
		const rows = yield* tx.access.allGuardrails(GUARDRAILS_MAX + 1);
		assert(rows.length <= GUARDRAILS_MAX, 'more guardrails than can be set: one of them would not be looked at');
		const scopes = yield* tx.scopes.getMany([...new Set(rows.map(({ scope }) => scope))]);
		const paths = new Map(scopes.map(({ name, path }) => [name, path]));
		return rows.map((rule) => {
			const path = paths.get(rule.scope);
			assert(path !== undefined, 'a guardrail stands at a scope');
			return { rule, path, forbidden: forbiddenBy([rule]) };
		});
	}

	/** Where guardrails forbid `permission` to this kind. */
	*denials(tx: Tx, kind: GuardedKind, permission: number): Plan<readonly string[]> {
		const rules = yield* this.rules(tx);
		return rules.filter(({ forbidden }) => holds(forbidden[kind], permission)).map(({ path }) => path);
	}

	/** What the principal holds by its own bindings and those of its groups. */
	*access(tx: Tx, principalId: string, nowMs: number): Plan<Access> {
		const known = this.#accesses.get(principalId);
		if (known !== undefined && nowMs < known.validUntilMs) return known;
		const access = yield* asPlatform(this.#readAccess(tx, principalId, nowMs));
		if (this.#accesses.size >= ENTRIES_MAX) this.#accesses.clear();
		this.#accesses.set(principalId, access);
		return access;
	}

	*#readAccess(tx: Tx, principalId: string, nowMs: number): Plan<Access> {
		const bindings = yield* heldBindings(tx, principalId);
		const scopes = yield* tx.scopes.getMany([...new Set(bindings.map(({ scope }) => scope))]);
		const paths = new Map(scopes.filter(({ state }) => state !== 'deleted').map(({ name, path }) => [name, path]));
		const custom = yield* customRoles(tx, bindings);
		const placed = bindings.map((binding) => ({ ...binding, path: paths.get(binding.scope) }));
		const memberOf = (yield* tx.identities.listMemberships(principalId)).map(({ organization }) => organization);
		return compileAccess(placed, custom, nowMs, memberOf);
	}
}

function* customRoles(tx: Tx, bindings: readonly { readonly role: string }[]): Plan<ReadonlyMap<string, RoleRow>> {
	const names = [...new Set(bindings.map(({ role }) => role))].filter((role) => role.includes('/'));
	return new Map((yield* tx.access.getRoles(names)).map((role) => [role.name, role]));
}

/**
 * The newest view. Only what was read from committed rows is shared: a unit may see an epoch that is never committed,
 * and the number could then come again with another meaning.
 */
export class PolicyCache {
	#view = new PolicyView(0);

	/** Of a snapshot (`Store.read`). Throws when the epoch can't be read: then nothing is decided. */
	*committed(tx: Tx): Plan<PolicyView> {
		const epoch = yield* tx.access.policyEpoch();
		if (epoch > this.#view.epoch) this.#view = new PolicyView(epoch);
		return epoch === this.#view.epoch ? this.#view : new PolicyView(epoch);
	}

	/** Of a unit: the shared one if its epoch is that, else one of its own. */
	*inUnit(tx: Tx): Plan<PolicyView> {
		const epoch = yield* tx.access.policyEpoch();
		return epoch === this.#view.epoch ? this.#view : new PolicyView(epoch);
	}
}
