import { create } from '@bufbuild/protobuf';
import { GpuaasError, messageOf } from '../../../kit/error.ts';
import { GetHealthResponseSchema, SystemService } from '../../../proto/gen/gpuaas/system/v1/system_pb.ts';
import { decodeDocument } from '../certificates/document.ts';
import { laggardNames } from '../certificates/laggards.ts';
import { outlookOf, type RotationOutlook } from '../certificates/rotation-outlook.ts';
import type { AppDeps } from '../deps.ts';
import { query } from '../use-case.ts';
import { CLOCK_OFFSET_MAX_MS, clockOffsetMs } from './clock-offset.ts';

/** One thing that must be well for this replica to take work, looked at now. */
export interface HealthFinding {
	readonly name: 'store' | 'isolation' | 'ca' | 'clock' | 'disk' | 'audit';
	readonly ok: boolean;
	/** What was found, and what to do. */
	readonly message: string;
	/** It is well and won't stay so unless somebody sees to this. */
	readonly toSeeTo?: string;
}

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
			await assertTakenUp(deps.authority);
			const issuer = deps.authority.activeNodeIssuer();
			if (!deps.authority.acceptedNodeIssuers().has(issuer))
				throw new Error('its own certificates would not be accepted');
			return await authorityToSeeTo(deps);
		}),
		find('clock', 'it agrees with the store', 'repair time synchronisation on the host that is off', async () => {
			const offsetMs = await clockOffsetMs(deps);
			if (offsetMs > CLOCK_OFFSET_MAX_MS) throw new Error(`it is ${offsetMs} ms off the store's`);
		}),
		find('disk', 'there is room for output', 'free space where output is kept', () => deps.output.check()),
		find('audit', 'heads are signed', 'look at the audit signing key and the log', async () =>
			deps.heads.assertSigning(),
		),
	]);
}

/** Throws while this replica lacks keys that another one made: soon nothing that it presents would be believed. */
async function assertTakenUp(authority: AppDeps['authority']): Promise<void> {
	try {
		await authority.reload();
		authority.assertKeys();
	} catch (error) {
		// A store that can't be read is a finding of its own.
		if (GpuaasError.from(error).reason === 'KEY_FILE_INVALID') throw error;
	}
}

/** While it issues this replica is ready. What a person has to see to; throws once an issuing CA has ended. */
async function authorityToSeeTo(deps: AppDeps): Promise<string | undefined> {
	const { authority, clock, limits } = deps;
	const { node, replica } = authority.issuersEndMs();
	const [what, endMs] = node <= replica ? ['node', node] : ['replica', replica];
	const leftMs = endMs - clock.now();
	const at = new Date(endMs).toISOString();
	if (leftMs <= 0) throw new Error(ended(what, at));
	if (authority.rotationTrouble !== '') return `its rotation can't go on by itself: ${authority.rotationTrouble}`;
	const outlook = await rotationOutlook(deps);
	if (outlook?.needsPerson === true) return outlook.text;
	if (leftMs > AUTHORITY_END_NEAR_MS) return undefined;
	const missed = limits.selfRotation.isOn ? 'its rotation should have begun by itself: the log says why not; or ' : '';
	return `the ${what} CA ends in ${Math.floor(leftMs / DAY_MS)} days, at ${at}, and every certificate with it; ${missed}rotate it: gpuaas ca rotate prepare, then the other steps`;
}

function ended(what: string, at: string): string {
	return `the ${what} CA ended at ${at} and issues nothing any more; on this host: gpuaas ca renew`;
}

/** Of nodes that hold it up only so many are looked for: this is asked with every scrape. */
const LAGGARDS_MAX = 200;

/** Undefined while the store can't be read, which is a finding of its own. */
async function rotationOutlook({ store, limits, clock }: AppDeps): Promise<RotationOutlook | undefined> {
	try {
		return await store.read(function* (tx) {
			const row = yield* tx.authority.get();
			if (row === undefined) return undefined;
			const document = decodeDocument(row.document);
			const laggards = yield* laggardNames(tx, document.rotation, LAGGARDS_MAX);
			return outlookOf(document, limits.selfRotation, clock.now(), laggards);
		});
	} catch {
		return undefined;
	}
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
