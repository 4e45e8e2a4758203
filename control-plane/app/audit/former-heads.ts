import type { Clock } from '../../../kit/clock.ts';
import { type Rng, uuidv7 } from '../../../kit/ids.ts';
import type { Logger } from '../../../kit/log.ts';
import { chainPointOf, logOfOrigin, verifyChainHead } from '../../../pki/verify/chain-head.ts';
import type { NoteKey } from '../../../pki/verify/signed-note.ts';
import { systemContext } from '../../context.ts';
import type { AuditLeafRow } from '../../store/port/audit.ts';
import type { Store, Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { AppendAudit } from './event.ts';
import { parseLeaf } from './leaf.ts';

/**
 * Heads of logs that ended, as agents kept them. The record that began the next log cites the largest one that was known
 * on the control plane's own host, where whoever cut the log off may have cut off its heads too; an agent may bring a
 * larger one, which is put on record, in full, as proof of how much was lost. Nothing has to continue it: that log ended.
 * Bounded: one for each former log. Called by sequencer.ts.
 */
export interface FormerHeadsOptions {
	readonly store: Store;
	readonly clock: Clock;
	readonly rng: Rng;
	readonly log: Logger;
	readonly appendAudit: AppendAudit;
	readonly origins: readonly string[];
	readonly key: NoteKey;
}

export const LOST_HEAD = 'audit.lost-head';
/** New logs are rare: more citations than this were never written. */
const CITATIONS_MAX = 1000;

interface FormerHead {
	readonly origin: string;
	readonly size: number;
	readonly note: string;
}

export class FormerHeads {
	readonly #options: FormerHeadsOptions;
	/** The largest that came of each log and wasn't compared. */
	readonly #waiting = new Map<string, FormerHead>();
	/** Of each log: no smaller one is of interest. */
	readonly #onRecord = new Map<string, number>();

	constructor(options: FormerHeadsOptions) {
		this.#options = options;
	}

	get isWaiting(): boolean {
		return this.#waiting.size > 0;
	}

	/** False: not of a former log. */
	witness(note: string): boolean {
		const { origins, key, log } = this.#options;
		const point = chainPointOf(note);
		if (point === undefined || !origins.includes(point.origin)) return false;
		const { origin, size } = point;
		if (size <= Math.max(this.#waiting.get(origin)?.size ?? 0, this.#onRecord.get(origin) ?? 0)) return true;
		const checked = verifyChainHead(note, origin, [key]);
		if (checked.kind === 'ok') this.#waiting.set(origin, { origin, size, note });
		else log.info('a head of a former audit log that a node kept says nothing', { why: checked.message });
		return true;
	}

	/** Rejects when the store does; what waited still waits. */
	async record(): Promise<void> {
		const { store, clock, log, rng } = this.#options;
		for (const head of [...this.#waiting.values()]) {
			const ctx = systemContext('audit-former-heads', clock, log, uuidv7(clock.now(), rng));
			const { appendAudit } = this.#options;
			const target = `audit/log-${logOfOrigin(head.origin)}`;
			const known = await store.unit(function* (tx) {
				const largest = yield* largestOnRecord(tx, head.origin, target);
				if (head.size <= largest) return largest;
				yield* appendAudit(tx, ctx, {
					action: LOST_HEAD,
					target,
					result: 'ok',
					reason: '',
					detail: {
						former_origin: head.origin,
						lost_head_size: head.size,
						lost_head: head.note,
						on_record_size: largest,
					},
				});
				return largest;
			});
			this.#onRecord.set(head.origin, Math.max(known, head.size));
			if (this.#waiting.get(head.origin) === head) this.#waiting.delete(head.origin);
			if (head.size <= known) continue;
			log.error('a node kept a larger head of a former audit log than its successor cites: more records were lost', {
				origin: head.origin,
				size: head.size,
				onRecord: known,
			});
		}
	}
}

/** 0: nothing cites any head of that log. */
function* largestOnRecord(tx: Tx, origin: string, target: string): Plan<number> {
	const of = (action: string, aim: string, limit: number) =>
		tx.audit.query({ afterSeq: null, limit, action, target: aim, organizations: null, newestFirst: true });
	// Each that was recorded is larger than those before it.
	const rows = [...(yield* of('audit.new-log', 'audit', CITATIONS_MAX)), ...(yield* of(LOST_HEAD, target, 1))];
	return Math.max(0, ...rows.map((row) => lostSize(row, origin)));
}

function lostSize({ leaf }: AuditLeafRow, origin: string): number {
	const { former_origin: former, lost_head_size: size } = parseLeaf(leaf)?.detail ?? {};
	return former === origin && typeof size === 'number' ? size : 0;
}
