import { create } from '@bufbuild/protobuf';
import { messageOf } from '../../../kit/error.ts';
import { GetHealthResponseSchema, SystemService } from '../../../proto/gen/gpuaas/system/v1/system_pb.ts';
import type { AppDeps } from '../deps.ts';
import { query } from '../use-case.ts';

/** One thing that must be well for this replica to take work, looked at now. */
export interface HealthFinding {
	readonly name: 'store' | 'isolation' | 'ca' | 'clock' | 'disk' | 'audit';
	readonly ok: boolean;
	/** What was found, and what to do. */
	readonly message: string;
	/** It is well and won't stay so unless somebody sees to this. */
	readonly toSeeTo?: string;
}

/** Past this, leases and certificates judged by the two clocks would disagree. */
const CLOCK_OFFSET_MAX_MS = 5000;
const DAY_MS = 86_400_000;
/** Time for a rotation whose every step waits for all nodes: some are off for a week. A CA lives for 90 days. */
const AUTHORITY_END_NEAR_MS = 20 * DAY_MS;

/** Looks at every dependency; never rejects. Used by GetHealth and by the ops listener's /readyz. */
export async function checkHealth(deps: AppDeps): Promise<readonly HealthFinding[]> {
	return await Promise.all([
		find('store', 'it commits', 'look at its disk and its log', () => deps.store.check()),
		find('isolation', 'tenants are kept apart', 'let an administrator of the database undo it', () =>
			deps.store.checkIsolation(),
		),
		find('ca', 'it issues', 'look at the key files and `gpuaas ca status`', async () => {
			const issuer = deps.authority.activeNodeIssuer();
			if (!deps.authority.acceptedNodeIssuers().has(issuer))
				throw new Error('its own certificates would not be accepted');
			return authorityEnd(deps);
		}),
		find('clock', 'it agrees with the store', 'repair time synchronisation on the host that is off', async () => {
			const offsetMs = Math.abs((await deps.store.now()) - deps.clock.now());
			if (offsetMs > CLOCK_OFFSET_MAX_MS) throw new Error(`it is ${offsetMs} ms off the store's`);
		}),
		find('disk', 'there is room for output', 'free space where output is kept', () => deps.output.check()),
		find('audit', 'heads are signed', 'look at the audit signing key and the log', async () =>
			deps.heads.assertSigning(),
		),
	]);
}

/** While it issues this replica is ready. What to see to when an end is near; throws once one is there. */
function authorityEnd({ authority, clock }: Pick<AppDeps, 'authority' | 'clock'>): string | undefined {
	const { node, replica } = authority.issuersEndMs();
	const [what, endMs] = node <= replica ? ['node', node] : ['replica', replica];
	const leftMs = endMs - clock.now();
	const rotate = 'rotate it: gpuaas ca rotate prepare, then the other steps';
	const at = new Date(endMs).toISOString();
	if (leftMs <= 0) throw new Error(`the ${what} CA ended at ${at} and issues nothing any more; ${rotate}`);
	if (leftMs > AUTHORITY_END_NEAR_MS) return undefined;
	return `the ${what} CA ends in ${Math.floor(leftMs / DAY_MS)} days, at ${at}, and every certificate with it; ${rotate}`;
}

async function find(
	name: HealthFinding['name'],
	good: string,
	advice: string,
	check: () => Promise<string | void>,
): Promise<HealthFinding> {
	try {
		const toSeeTo = (await check()) ?? undefined;
		return toSeeTo === undefined
			? { name, ok: true, message: good }
			: { name, ok: true, message: `${good}; but ${toSeeTo}`, toSeeTo };
	} catch (error) {
		return { name, ok: false, message: `${messageOf(error)}; ${advice}` };
	}
}

export const getHealth = query('platform', SystemService.method.getHealth, {
	*read() {},
	async answer({ deps }) {
		const checks = await checkHealth(deps);
		return create(GetHealthResponseSchema, { ready: checks.every(({ ok }) => ok), checks: [...checks] });
	},
});
