import type { Access } from '../../control-plane/app/iam/access.ts';
import { matching } from '../../control-plane/app/iam/permissions.ts';
import { PolicyCache, PolicyView } from '../../control-plane/app/iam/policy-view.ts';
import { ROLES } from '../../control-plane/app/iam/roles.ts';
import type { Tx } from '../../control-plane/store/port/store.ts';
import type { Plan } from '../../control-plane/store/port/unit.ts';

/**
 * The application's own filter, taken away: everybody holds everything everywhere, in both planes, so `decide` says yes
 * and lists filter nothing. What then keeps tenants apart is row security alone. It exists in this test's composition only.
 */
class BlindView extends PolicyView {
	override *access(tx: Tx, principalId: string, nowMs: number): Plan<Access> {
		const real = yield* super.access(tx, principalId, nowMs);
		return { ...real, platform: EVERYTHING, at: new Map([['/', EVERYTHING]]) };
	}
}

const EVERYTHING = matching(Object.values(ROLES).flatMap(({ permissions }) => [...permissions]));

export class BlindPolicies extends PolicyCache {
	override *committed(tx: Tx): Plan<PolicyView> {
		return new BlindView(yield* tx.access.policyEpoch());
	}

	override *inUnit(tx: Tx): Plan<PolicyView> {
		return new BlindView(yield* tx.access.policyEpoch());
	}
}
