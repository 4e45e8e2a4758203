import type { Message } from '@bufbuild/protobuf';
import { Caller } from '../../../proto/gen/gpuaas/common/v1/policy_pb.ts';
import type { Store, Tenancy } from '../../store/port/store.ts';
import type { CheckedPolicy } from './method-policy.ts';
import type { CallContext, PrincipalActor } from './principal.ts';
import { parseResourceName } from './resource-name.ts';

/**
 * For whom a call works, which on PostgreSQL row security holds it to: the caller's organizations, narrowed to the one
 * that the request names. It comes from where the caller belongs, not from what the decision core says of the object, so
 * that each of the two catches the other's mistakes. Undefined for the platform's own people, who see everything, and of whom
 * `decide` alone says what they may; and for methods that anybody may call, which look up a secret.
 */
export function tenancyOf(
	actor: PrincipalActor,
	policy: CheckedPolicy,
	request: Message | undefined,
): Tenancy | undefined {
	if (policy.caller !== Caller.PRINCIPAL || actor.access.isOfPlatform) return undefined;
	return { organizations: named(actor.organizations, policy, request), principalId: actor.id };
}

function named(
	organizations: readonly string[],
	policy: CheckedPolicy,
	request: Message | undefined,
): readonly string[] {
	if (policy.target !== 'scope' || request === undefined) return organizations;
	const name: unknown = Reflect.get(request, policy.targetField);
	const scope = typeof name === 'string' ? parseResourceName(name)?.scope : undefined;
	const organization = scope?.split('/')[1];
	return organizations.filter((id) => id === organization);
}

/** Of several, no record names them all; few people belong to more. */
const RECORDED_MAX = 4;

/**
 * In whose audit a refused call belongs: the caller's, never that of whoever's thing it was about. Of several, the one in
 * which the object stands that the caller may see, or that the request names; where it is in none of them, each. Empty
 * for the platform's people and for strangers.
 */
export function recordedFor(
	{ actor, about }: Pick<CallContext, 'actor' | 'about'>,
	policy: CheckedPolicy,
	request: Message | undefined,
): readonly string[] {
	if (actor.access.isOfPlatform) return [];
	const seen = about?.organization ?? '';
	if (seen !== '') return actor.organizations.filter((id) => id === seen);
	const asked = named(actor.organizations, policy, request);
	return (asked.length > 0 ? asked : actor.organizations).slice(0, RECORDED_MAX);
}

/** What a call does with the store, it does for these. */
export function storeOf(store: Store, tenancy: Tenancy | undefined): Store {
	return tenancy === undefined ? store : new TenantStore(store, tenancy);
}

class TenantStore implements Store {
	readonly dialect: Store['dialect'];
	readonly #store: Store;
	readonly #tenancy: Tenancy;

	constructor(store: Store, tenancy: Tenancy) {
		this.dialect = store.dialect;
		this.#store = store;
		this.#tenancy = tenancy;
	}

	unit: Store['unit'] = (plan, options) => this.#store.unit(plan, { ...options, tenancy: this.#tenancy });
	read: Store['read'] = (plan) => this.#store.read(plan, { tenancy: this.#tenancy });
	check = () => this.#store.check();
	checkIsolation = () => this.#store.checkIsolation();
	now = () => this.#store.now();

	/** It is one call's view of a store that outlives it. */
	async [Symbol.asyncDispose](): Promise<void> {}
}
