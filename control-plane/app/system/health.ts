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
}

/** Past this, leases and certificates judged by the two clocks would disagree. */
const CLOCK_OFFSET_MAX_MS = 5000;

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

async function find(
	name: HealthFinding['name'],
	good: string,
	advice: string,
	check: () => Promise<string | void>,
): Promise<HealthFinding> {
	try {
		const toSeeTo = (await check()) ?? undefined;
		return { name, ok: true, message: toSeeTo === undefined ? good : `${good}; but ${toSeeTo}` };
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
