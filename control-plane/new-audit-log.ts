import { userInfo } from 'node:os';
import { uuidv7 } from '../kit/ids.ts';
import { Scope } from '../kit/scope.ts';
import { chainOrigin } from '../pki/verify/chain-head.ts';
import { AnchorFile } from './adapters/audit-anchor/anchor-file.ts';
import { beginLog, readLogNumber } from './adapters/audit-anchor/log-number.ts';
import { createAppendAudit } from './app/audit/append.ts';
import { recordNewLog } from './app/audit/new-log.ts';
import { systemContext } from './context.ts';
import type { ControlPlaneDeps } from './open-app.ts';
import { foldersOf } from './settings.ts';
import { lockDatabase } from './store/database-lock.ts';
import { openStore } from './store/open.ts';

/**
 * `main.ts new-audit-log REASON`, behind `gpuaas audit new-log`: for who may write the data folder of this host, which is
 * more than any role of the API gives. The record comes before the files: a crash in between leaves the old log broken and
 * one record more in it.
 */
export interface NewLogOutcome {
	readonly log: number;
	/** What the lost head said. */
	readonly lost: { readonly size: number; readonly note: string; readonly why: string };
	/** Where the heads of the former log are kept. */
	readonly evidence: string;
}

export async function newAuditLog(options: ControlPlaneDeps, reason: string): Promise<NewLogOutcome> {
	const { config, clock, rng, log } = options;
	const { heads, storeUrl } = foldersOf(config);
	await using scope = new Scope((name, error) => log.error('a part failed', { part: name, error }));
	scope.defer(lockDatabase(storeUrl, uuidv7(clock.now(), rng)));
	const store = scope.use(await openStore(storeUrl, { clock, rng, log }));
	const former = await readLogNumber(heads);
	const anchor = scope.use(await AnchorFile.open(heads));
	const { username } = userInfo();
	const system = systemContext('new-audit-log', clock, log, uuidv7(clock.now(), rng));
	const ctx = { ...system, actor: { ...system.actor, kind: 'operator', displayName: username } as const };
	const next = { number: former + 1, origin: chainOrigin(config.core.trustDomain, former), reason };
	const lost = await recordNewLog({ store, anchor, appendAudit: createAppendAudit({ clock, rng }) }, ctx, next);
	const cites = { size: lost.size, note: lost.note };
	await beginLog(heads, { number: next.number, begunAtMs: clock.now(), reason, cites });
	return { log: next.number, lost, evidence: `${heads}.log-${former}` };
}
