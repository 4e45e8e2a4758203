import { MemoryAnchor } from '../../../control-plane/app/audit/anchor.ts';
import { createAppendAudit } from '../../../control-plane/app/audit/append.ts';
import type { SequencerOptions } from '../../../control-plane/app/audit/sequencer.ts';
import { InProcessBus } from '../../../control-plane/bus/in-process.ts';
import { systemContext } from '../../../control-plane/context.ts';
import type { Store } from '../../../control-plane/store/port/store.ts';
import type { Clock } from '../../../kit/clock.ts';
import { systemRng } from '../../../kit/ids.ts';
import { silentLogger } from '../../../kit/log.ts';
import { ed25519SignerFromSeed } from '../../../pki/keys/signer.ts';
import { type AuditChainResult, verifyAuditChain } from '../../../pki/verify/audit-chain.ts';
import { chainOrigin } from '../../../pki/verify/chain-head.ts';
import { noteKey } from '../../../pki/verify/signed-note.ts';

/** What audit tests share: one key, records of a made-up change, and the verifier as an auditor would run it. */
const signer = ed25519SignerFromSeed(new Uint8Array(32).fill(8));
const keyName = 'cluster.test/audit';
const key = noteKey(keyName, signer.spki());

export function sequencerOptions(store: Store, clock: Clock, more: Partial<SequencerOptions> = {}): SequencerOptions {
	return {
		store,
		clock,
		rng: systemRng,
		log: silentLogger,
		appendAudit: createAppendAudit({ clock, rng: systemRng }),
		bus: new InProcessBus(),
		signer,
		keyName,
		origin: chainOrigin('cluster.test'),
		anchor: new MemoryAnchor(),
		replicaId: 'replica-1',
		...more,
	};
}

/** Records one change and returns the id of its leaf. */
export function record(store: Store, clock: Clock, target: string): Promise<string> {
	const append = createAppendAudit({ clock, rng: systemRng });
	const ctx = systemContext('test', clock, silentLogger, 'correlation');
	return store.unit((tx) => append(tx, ctx, { action: 'nodes.cordon', target, result: 'ok', reason: '' }));
}

export async function verifyStore(store: Store, anchor: MemoryAnchor): Promise<AuditChainResult> {
	return await verifyAuditChain(
		(async function* () {
			for (let next = 1; ; ) {
				const from = next;
				const rows = await store.read((tx) => tx.audit.list(from, 100));
				for (const { seq, leaf, chain } of rows) {
					if (seq !== null && chain !== null) yield { seq, leaf, chain };
					next = (seq ?? next) + 1;
				}
				if (rows.length === 0) return;
			}
		})(),
		anchor.heads.map(({ note }) => note),
		key,
	);
}
