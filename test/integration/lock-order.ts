import type { Store, Tx } from '../../control-plane/store/port/store.ts';
import type { Plan } from '../../control-plane/store/port/unit.ts';

/**
 * A store that holds its units to the order in which rows are locked (see `lockPolicy`): whoever changes the policy, or
 * holds it still, does so before any row of identity and access. Two units that go in opposite orders wait for each other on
 * PostgreSQL, now and then and only there; here the first unit that strays fails its test, on either store.
 */
const AFTER_POLICY = [
	'scopes',
	'principals',
	'bindings',
	'roles',
	'guardrails',
	'api_keys',
	'user_identities',
	'members',
	'group_members',
	'invitations',
	'login_sessions',
];
const POLICY = /^update "?policy"? /;
const LOCK = new RegExp(`^(update|delete from) "?(${AFTER_POLICY.join('|')})"? `);
/** Of PostgreSQL only: SQLite has one writer. */
const LOCKED_READ = new RegExp(` from "?(${AFTER_POLICY.join('|')})"? .* for update`, 's');

export function inLockOrder(store: Store): Store {
	const inner = store.unit.bind(store);
	const unit: Store['unit'] = (plan, options) => inner((tx) => watched(plan(tx)), options);
	// In its place, so that a test may put another one there in turn.
	return Object.defineProperty(store, 'unit', { value: unit, writable: true, configurable: true });
}

/** A change that a test makes by itself, in that order. */
export function underPolicy<T>(plan: (tx: Tx) => Plan<T>): (tx: Tx) => Plan<T> {
	return function* (tx) {
		yield* tx.access.lockPolicy();
		return yield* plan(tx);
	};
}

function* watched<T>(plan: Plan<T>): Plan<T> {
	let held: string | undefined;
	let hasPolicy = false;
	let isDone = false;
	try {
		let next = plan.next();
		while (next.done !== true) {
			const { sql } = next.value;
			if (POLICY.test(sql)) {
				if (!hasPolicy && held !== undefined) throw new Error(`the policy is locked after another row:\n${held}`);
				hasPolicy = true;
			} else if (LOCK.test(sql) || LOCKED_READ.test(sql)) held ??= sql;
			next = plan.next(yield next.value);
		}
		isDone = true;
		return next.value;
	} finally {
		if (!isDone) plan.return(undefined as never);
	}
}
