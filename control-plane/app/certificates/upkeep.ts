import { type Clock, sleep } from '../../../kit/clock.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import type { Logger } from '../../../kit/log.ts';
import { systemContext } from '../../context.ts';
import type { IssuingDeps } from '../enrollment/deps.ts';
import { decodeDocument, encodeDocument, issuingSet } from './document.ts';
import { signerRow } from './record.ts';
import type { RunningAuthority } from './running-authority.ts';

/**
 * What the authority needs between requests, one per replica: takes up changes that another replica made, sends every
 * new bundle to live nodes, tells them to renew while a rotation drains, and replaces the task signer at half its life.
 */
export interface UpkeepOptions {
	readonly deps: Pick<IssuingDeps, 'clock' | 'rng' | 'log' | 'store' | 'bus' | 'sessions' | 'appendAudit'>;
	readonly authority: RunningAuthority;
	readonly signal: AbortSignal;
}

/** Announcements may be lost. */
const LOOK_MS = 5000;
/** After this every live session has the bundle with the new signer, and the next envelope may be signed with it. */
export const SIGNER_DELAY_MS = 60_000;

/** Ends with `signal`; never rejects. */
export async function runAuthorityUpkeep({ deps, authority, signal }: UpkeepOptions): Promise<void> {
	const { clock, log, bus, sessions } = deps;
	let wake = new AbortController();
	const unsubscribe = bus.subscribe('authority.changed', () => wake.abort());
	let issuer = authority.activeNodeIssuer();
	const unwatch = authority.onChange(() => {
		const before = issuer;
		issuer = authority.activeNodeIssuer();
		const phase = authority.document().document.rotation?.phase;
		sessions.broadcastTrust(authority.bundle().bytes);
		// Taken back to `prepared`: nodes must also leave the certificates of the CA that is taken back.
		const isTakenBack = phase === 'prepared' && before !== issuer;
		if (phase !== 'draining' && !isTakenBack) return;
		for (const nodeId of sessions.connected()) sessions.renewNow(nodeId, 'the certificate authority is rotated');
	});
	try {
		while (!signal.aborted) {
			wake = new AbortController();
			await attempt(log, 'authority not reloaded', () => authority.reload());
			if (isSignerDue(authority, clock)) {
				await attempt(log, 'task signer not replaced', () => replaceTaskSigner(deps, authority));
			}
			await sleep(clock, LOOK_MS, AbortSignal.any([signal, wake.signal]));
		}
	} finally {
		unsubscribe();
		unwatch();
	}
}

async function attempt(log: Logger, failure: string, work: () => Promise<void>): Promise<void> {
	try {
		await work();
	} catch (error) {
		log.error(failure, { error });
	}
}

function isSignerDue(authority: RunningAuthority, clock: Clock): boolean {
	const { taskSigners, replica } = issuingSet(authority.document().document);
	const newest = taskSigners.at(-1);
	// The next one would end with the CA, too: one after the other as that end comes near, and after it none at all.
	if (newest === undefined || newest.notAfterMs >= replica.notAfterMs) return false;
	return clock.now() >= (newest.notBeforeMs + newest.notAfterMs) / 2;
}

/** Adds a signer to the bundle now and signs with it a little later; drops those whose certificate has run out. */
async function replaceTaskSigner(deps: UpkeepOptions['deps'], authority: RunningAuthority): Promise<void> {
	const nowMs = deps.clock.now();
	const signer = await authority.makeNextTaskSigner(nowMs + SIGNER_DELAY_MS);
	const { version } = authority.document();
	const eventId = uuidv7(nowMs, deps.rng);
	const ctx = systemContext('certificates/upkeep', deps.clock, deps.log, eventId);
	await deps.store.unit(function* (tx) {
		const row = yield* tx.authority.get();
		// Another replica was first: its signer comes with the next look.
		if (row === undefined || row.version !== version) return;
		const document = decodeDocument(row.document);
		const issuing = issuingSet(document);
		const kept = issuing.taskSigners.filter(({ notAfterMs }) => notAfterMs > nowMs);
		const sets = document.sets.map((set) => (set === issuing ? { ...set, taskSigners: [...kept, signer] } : set));
		yield* tx.authority.put(encodeDocument({ ...document, bundleSeq: document.bundleSeq + 1, sets }), version);
		yield* tx.certificates.insert(signerRow(signer, issuing.replica.keyId, nowMs));
		yield* deps.appendAudit(tx, ctx, {
			action: 'certificates.issue',
			target: `task-signers/${signer.keyName}`,
			result: 'ok',
			reason: '',
			detail: { key_id: signer.keyId, issuer: issuing.replica.keyId },
		});
		yield* tx.outbox.append({ id: eventId, topic: 'authority.changed', key: document.trustDomain, atMs: nowMs });
	});
	deps.bus.publish({ topic: 'authority.changed', key: authority.trustDomain });
	await authority.reload();
}
