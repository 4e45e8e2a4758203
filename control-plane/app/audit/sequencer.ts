import { assert } from '../../../kit/assert.ts';
import type { Clock } from '../../../kit/clock.ts';
import { GpuaasError, messageOf } from '../../../kit/error.ts';
import type { Rng } from '../../../kit/ids.ts';
import type { Logger } from '../../../kit/log.ts';
import type { Signer } from '../../../pki/keys/signer.ts';
import { CHAIN_START, chainPointOf, nextChain, signChainHead } from '../../../pki/verify/chain-head.ts';
import { noteKey } from '../../../pki/verify/signed-note.ts';
import type { Bus } from '../../bus/bus.ts';
import type { AuditHeadRow, AuditLeafRow } from '../../store/port/audit.ts';
import type { Store } from '../../store/port/store.ts';
import type { AnchoredHead, HeadAnchor } from './anchor.ts';
import { CheckedHeads } from './checked-heads.ts';
import { cutOff, discontinuity } from './discontinuity.ts';
import type { AppendAudit } from './event.ts';
import { FormerHeads } from './former-heads.ts';
import type { HeadKeeper } from './head-keeper.ts';
import { HeadWaiters, stopped } from './head-waiters.ts';

/**
 * Gives audit leaves their position after they were committed, and signs heads. One round chains what waits, in
 * batches, and signs a head for each; reconcilers/seal.ts decides when. On more than one replica only the holder of a
 * lease works, the others follow its heads; the store refuses a position that is not the next one, so that even two at
 * once can't fork the chain.
 *
 * Invariants: a head is anchored outside the database before the database knows of it; nothing is signed that doesn't
 * continue the newest anchored head and those that agents kept (a restored backup must not fork the log): then signing
 * stops for good, which is logged as an error, and privileged calls are refused. What was kept by an agent and proves a
 * loss is anchored, so that the next start knows of it before that agent connects.
 */
export interface SequencerOptions {
	readonly store: Store;
	readonly clock: Clock;
	readonly rng: Rng;
	readonly log: Logger;
	readonly appendAudit: AppendAudit;
	readonly bus: Bus;
	readonly signer: Signer;
	/** Of the signature line. */
	readonly keyName: string;
	/** pki/verify/chain-head `chainOrigin`. */
	readonly origin: string;
	/** Of logs before this one: their heads are kept as evidence (former-heads.ts), and nothing has to continue them. */
	readonly formerOrigins?: readonly string[];
	readonly anchor: HeadAnchor;
	readonly replicaId: string;
}

/** Leaves of one head at most. */
const BATCH_LEAVES_MAX = 256;
/** Then the lease is looked at again. */
const ROUND_LEAVES_MAX = 32 * BATCH_LEAVES_MAX;
/** Kept heads that wait for the next round; what comes on top is told again with the agent's next Hello. */
const WITNESSED_MAX = 256;
const LEASE_NAME = 'audit-sequencer';
const LEASE_TTL_MS = 5000;
/** Somebody waits for a head, maybe on another replica than the one that signs. */
export const AUDIT_WAITING = 'audit.waiting';

interface Chained {
	readonly seq: number;
	readonly chain: Uint8Array;
}

export class AuditSequencer implements HeadKeeper {
	readonly #options: SequencerOptions;
	readonly #waiters: HeadWaiters;
	/** The end of the chain while this replica is the one that extends it. */
	#last: Chained | undefined;
	#head: AuditHeadRow | undefined;
	#leaseUntilMs = 0;
	/** Why signing is stopped; undefined while it works. */
	#stopped: GpuaasError | undefined = unavailable('has not been looked at yet');
	#halted = false;
	/** Heads of ours that agents kept and that nobody has compared with the chain, by note. */
	readonly #witnessed = new Map<string, AnchoredHead>();
	readonly #checked: CheckedHeads;
	readonly #former: FormerHeads;

	constructor(options: SequencerOptions) {
		this.#options = options;
		this.#waiters = new HeadWaiters(options.clock);
		const key = noteKey(options.keyName, options.signer.spki());
		this.#checked = new CheckedHeads(options.origin, key);
		const { formerOrigins: origins = [] } = options;
		this.#former = new FormerHeads({ ...options, origins, key });
	}

	latest(): string {
		return this.#head?.note ?? '';
	}

	assertSigning(): void {
		if (this.#stopped !== undefined) throw this.#stopped;
	}

	/** Compared in the next round, before anything is signed. */
	witness(note: string): void {
		if (this.#halted || note === '' || note === this.#head?.note || this.#witnessed.has(note)) return;
		if (this.#former.witness(note) || this.#witnessed.size >= WITNESSED_MAX) return;
		const { clock, log } = this.#options;
		const checked = this.#checked.check(note);
		if (checked.kind === 'ok' && checked.head.size > 0) {
			this.#witnessed.set(note, { size: checked.head.size, note, atMs: clock.now() });
		} else if (checked.kind === 'refused') {
			log.info('an audit head that a node kept says nothing', { why: checked.message });
		}
	}

	get hasWitnessed(): boolean {
		return this.#witnessed.size > 0 || this.#former.isWaiting;
	}

	covered(leafId: string): Promise<void> {
		if (this.#stopped !== undefined) return Promise.reject(stopped());
		const wait = this.#waiters.add(leafId);
		this.#options.bus.publish({ topic: AUDIT_WAITING, key: leafId });
		return wait;
	}

	/** One pass; never throws. `isBusy`: there was at least a whole batch, come back soon. */
	async round(): Promise<{ readonly isBusy: boolean }> {
		if (this.#halted) return { isBusy: false };
		try {
			await this.#compareWitnessed();
			await this.#former.record();
			const isHolder = await this.#holdLease();
			const chained = isHolder ? await this.#sequence() : await this.#follow();
			await this.#settleWaiters();
			if (this.#stopped !== undefined) this.#options.log.info('audit heads are being signed');
			this.#stopped = undefined;
			return { isBusy: chained >= BATCH_LEAVES_MAX };
		} catch (error) {
			// Whatever was read may be out of date: another replica may have taken over.
			this.#last = undefined;
			this.#stop(error);
			return { isBusy: false };
		}
	}

	/** Lets another replica take over at once. */
	async close(): Promise<void> {
		this.#halted = true;
		// No error: whoever watches the log for errors must not be called for each stop.
		this.#refuse(unavailable('is closed because the process is shutting down'));
		if (this.#leaseUntilMs === 0) return;
		const { store, replicaId } = this.#options;
		await store.unit((tx) => tx.leases.release(LEASE_NAME, replicaId)).catch(() => {});
	}

	/** One process owns a SQLite file, so there is nobody to keep away. */
	async #holdLease(): Promise<boolean> {
		const { store, replicaId } = this.#options;
		if (store.dialect === 'sqlite') return true;
		const nowMs = await store.now();
		if (this.#leaseUntilMs - nowMs > LEASE_TTL_MS / 2) return true;
		const untilMs = nowMs + LEASE_TTL_MS;
		const acquired = await store.unit((tx) => tx.leases.acquire(LEASE_NAME, replicaId, nowMs, untilMs));
		if (acquired && nowMs >= this.#leaseUntilMs) this.#last = undefined;
		this.#leaseUntilMs = acquired ? untilMs : 0;
		return acquired;
	}

	/** Chains and signs what waits; returns how many leaves. */
	async #sequence(): Promise<number> {
		const { store } = this.#options;
		let last = this.#last ?? (await this.#load());
		let total = 0;
		while (total < ROUND_LEAVES_MAX) {
			const waiting = await store.read((tx) => tx.audit.listUnchained(BATCH_LEAVES_MAX));
			if (waiting.length > 0) last = await this.#chain(last, waiting);
			this.#last = last;
			if (last.seq > (this.#head?.size ?? 0)) await this.#sign(last);
			total += waiting.length;
			if (waiting.length < BATCH_LEAVES_MAX) break;
		}
		return total;
	}

	/** Reads the end of the chain and compares it with what was anchored. */
	async #load(): Promise<Chained> {
		const { store } = this.#options;
		const { last, head } = await store.read(function* (tx) {
			return { last: yield* tx.audit.last(), head: yield* tx.audit.lastHead() };
		});
		const end = chainedOf(last);
		await this.#assertContinues(end, 'the newest head in the anchor', this.#options.anchor.newest());
		await this.#assertContinues(end, 'the newest head in the database', head);
		// Agents are told of it: not before it is known to continue what was signed.
		if (head !== undefined && !this.#isFormer(head)) this.#head = head;
		return end;
	}

	async #chain(last: Chained, waiting: readonly AuditLeafRow[]): Promise<Chained> {
		let { seq, chain } = last;
		const rows = waiting.map(({ id, leaf }) => {
			seq += 1;
			chain = nextChain(chain, leaf);
			return { id, seq, chain };
		});
		await this.#options.store.unit((tx) => tx.audit.chain(rows));
		for (const row of rows) this.#waiters.chained(row.id, row.seq);
		return { seq, chain };
	}

	async #sign({ seq, chain }: Chained): Promise<void> {
		const { anchor, clock, keyName, origin, signer, store } = this.#options;
		const anchored = anchor.newest();
		if (anchored !== undefined && anchored.size > seq) throw this.#halt(cutOff(anchored.size, seq));
		const note = await signChainHead({ origin, size: seq, chain }, keyName, signer);
		const head = { size: seq, note, atMs: clock.now() };
		// A crash after the anchor and before the database leaves a head that the next start finds there.
		if (anchored === undefined || anchored.size < seq) await anchor.append(head);
		await store.unit(function* (tx) {
			// A former log, whose records were cut off, may have a head of this size: it stays.
			const [known] = yield* tx.audit.listHeads(seq - 1, 1, false);
			if (known?.size !== seq) yield* tx.audit.putHead(head);
		});
		this.#head = head;
		this.#waiters.signed(seq);
	}

	#isFormer({ note }: { readonly note: string }): boolean {
		const { formerOrigins = [] } = this.#options;
		return formerOrigins.includes(chainPointOf(note)?.origin ?? '');
	}

	/** Another replica signs: its heads are anchored here too, so that this host notices a restored database as well. */
	async #follow(): Promise<number> {
		this.#last = undefined;
		const { anchor, store } = this.#options;
		const { last, head } = await store.read(function* (tx) {
			return { last: yield* tx.audit.last(), head: yield* tx.audit.lastHead() };
		});
		const end = chainedOf(last);
		await this.#assertContinues(end, 'the newest head in the anchor', anchor.newest());
		if (head === undefined || this.#isFormer(head) || head.size <= (this.#head?.size ?? 0)) return 0;
		await this.#assertContinues(end, 'the newest head in the database', head);
		if (head.size > (anchor.newest()?.size ?? 0)) await anchor.append(head);
		this.#head = head;
		this.#waiters.signed(head.size);
		return 0;
	}

	async #compareWitnessed(): Promise<void> {
		if (this.#witnessed.size === 0) return;
		const { anchor, store } = this.#options;
		const heads = [...this.#witnessed.values()];
		// Read after they came: whoever signed them had chained their records before.
		const end = chainedOf(await store.read((tx) => tx.audit.last()));
		for (const head of heads) {
			try {
				await this.#assertContinues(end, 'a head that a node kept', head);
				this.#witnessed.delete(head.note);
			} catch (error) {
				if (this.#halted && head.size > (anchor.newest()?.size ?? 0)) {
					await anchor.append(head).catch((failure: unknown) => {
						this.#options.log.error('a head that a node kept was not anchored', { error: failure });
					});
				}
				throw error;
			}
		}
	}

	async #settleWaiters(): Promise<void> {
		const { store } = this.#options;
		for (const leafId of this.#waiters.unplaced()) {
			const seq = await store.read((tx) => tx.audit.seqOf(leafId));
			if (seq === undefined) this.#waiters.reject(leafId, unavailable(`has no record ${leafId}`));
			else if (seq !== null) this.#waiters.chained(leafId, seq);
		}
		this.#waiters.signed(this.#head?.size ?? 0);
	}

	/** Whether our chain, as far as `head` goes, is the one that was signed. */
	async #assertContinues(end: Chained, what: string, head: { size: number; note: string } | undefined): Promise<void> {
		if (head === undefined || this.#isFormer(head)) return;
		const { origin, store } = this.#options;
		const why = await discontinuity(store, origin, end.seq, what, head);
		if (why !== undefined) throw this.#halt(why);
	}

	/** For good: continuing would sign a second history. */
	#halt(why: string): GpuaasError {
		this.#halted = true;
		return unavailable(`can't be continued: ${why}`);
	}

	#stop(error: unknown): void {
		this.#options.log.error('signing of audit heads is stopped', { error });
		this.#refuse(
			error instanceof GpuaasError && error.reason === 'AUDIT_UNAVAILABLE'
				? error
				: unavailable(`can't be sealed now (${messageOf(error)})`, error),
		);
	}

	#refuse(why: GpuaasError): void {
		this.#stopped = why;
		this.#waiters.rejectAll();
	}
}

function chainedOf(row: AuditLeafRow | undefined): Chained {
	if (row === undefined) return { seq: 0, chain: CHAIN_START };
	assert(row.seq !== null && row.chain !== null, 'the last chained leaf has its position');
	return { seq: row.seq, chain: row.chain };
}

function unavailable(what: string, cause?: unknown): GpuaasError {
	return new GpuaasError({
		code: 'UNAVAILABLE',
		reason: 'AUDIT_UNAVAILABLE',
		message: `the audit log ${what}; calls that must be on record are refused meanwhile, try again or ask the platform operator`,
		...(cause === undefined ? {} : { cause }),
	});
}
