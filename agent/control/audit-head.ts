import { create } from '@bufbuild/protobuf';
import type { Logger } from '../../kit/log.ts';
import { type ChainHead, chainPointOf, isLaterLog, logOfOrigin } from '../../pki/verify/chain-head.ts';
import { FactSchema } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { Journal } from '../journal/journal.ts';

/**
 * The newest head of the control plane's audit log that this host was ever shown: a witness that outlives the control
 * plane's database and its files. It only grows. A control plane that was rolled back shows a smaller head, or another
 * one of the same size; that is said here, put on record, and never stored over the evidence. This host has no key to
 * check heads with: whoever compares them does.
 *
 * A log that was begun after it (`gpuaas audit new-log`) takes its place, which is told once for ever; the last head of
 * the former log stays beside it, because it may say more than what the new log cites. A log never goes back to a former.
 *
 * One for each connection, so that the same finding is told once in each. Called by link.ts.
 */
export const AUDIT_HEAD = 'link.audit_head';
/** JSON list of notes, oldest first: the last head of each log before this. */
const FORMER_HEADS = 'link.audit_heads_former';
export const HEAD_WENT_BACK = 'audit.head-went-back';
export const NEW_LOG = 'audit.new-log-shown';
/** Of more the first are kept: what a control plane lost stands in them, however many logs it begins. */
const FORMER_MAX = 16;

/** The last heads of logs that ended, each with its number. */
export function formerHeads(journal: Journal): readonly { readonly log: number; readonly note: string }[] {
	const notes: readonly string[] = JSON.parse(journal.getSetting(FORMER_HEADS) ?? '[]');
	return notes.map((note) => ({ log: logOfOrigin(chainPointOf(note)?.origin ?? '') ?? 0, note }));
}

export class KeptAuditHead {
	readonly #journal: Journal;
	readonly #log: Logger;
	#told = false;
	#isOnRecord = false;
	/** Shown to this connection, and not stored yet: the disk took nothing. */
	#unstored: string | undefined;
	#failed = false;

	constructor(journal: Journal, log: Logger) {
		this.#journal = journal;
		this.#log = log;
	}

	/** For Hello; empty before the first. */
	note(): string {
		return this.#unstored ?? this.#journal.getSetting(AUDIT_HEAD) ?? '';
	}

	/**
	 * A head that the control plane shows; empty before its first. A disk that takes nothing costs no link: what can't be
	 * kept is tried again with the next head.
	 */
	shown(note: string): void {
		try {
			this.#shown(note);
		} catch (error) {
			if (!this.#failed) this.#log.error("a head of the control plane's audit log could not be kept", { error });
			this.#failed = true;
		}
	}

	#shown(note: string): void {
		const kept = this.note();
		if (note === kept) {
			if (this.#unstored !== undefined) this.#store(note);
			return;
		}
		const shownHead = chainPointOf(note);
		// None is no news: a control plane that can't sign shows none.
		if (shownHead === undefined) return;
		const keptHead = chainPointOf(kept);
		if (keptHead === undefined) this.#store(note);
		else if (isLaterLog(shownHead.origin, keptHead.origin)) this.#newLog(kept, note, keptHead, shownHead);
		else if (keptHead.origin === shownHead.origin && keptHead.size < shownHead.size) this.#store(note);
		else if (!same(keptHead, shownHead)) this.#wentBack(keptHead, shownHead);
	}

	#store(note: string): void {
		this.#unstored = note;
		this.#journal.putSetting(AUDIT_HEAD, note);
		this.#unstored = undefined;
	}

	/** In one commit: whatever ends this agent, it is told exactly once. */
	#newLog(former: string, note: string, kept: ChainHead, shown: ChainHead): void {
		const journal = this.#journal;
		journal.transaction(() => {
			const heads = formerHeads(journal);
			if (heads.length < FORMER_MAX)
				journal.putSetting(FORMER_HEADS, JSON.stringify([...heads.map((head) => head.note), former]));
			journal.putSetting(AUDIT_HEAD, note);
			this.#tell(NEW_LOG, kept, shown);
		});
		this.#unstored = undefined;
		this.#log.error(
			'the control plane has begun a new audit log: records of the former one were lost. The last head of that is kept as evidence; hold it against the record audit.new-log',
			{ kept: text(kept), shown: text(shown) },
		);
	}

	#wentBack(kept: ChainHead, shown: ChainHead): void {
		if (!this.#told)
			this.#log.error(
				'the control plane shows an older or another audit log than before: it was restored from an old backup, or its log was cut off or forked. The newest head is kept as evidence; show it to the platform operator',
				{ kept: text(kept), shown: text(shown) },
			);
		this.#told = true;
		if (!this.#isOnRecord) this.#tell(HEAD_WENT_BACK, kept, shown);
		this.#isOnRecord = true;
	}

	#tell(action: string, kept: ChainHead, shown: ChainHead): void {
		const detail = `kept ${text(kept)}; shown ${text(shown)}`;
		this.#journal.appendFacts([create(FactSchema, { fact: { case: 'agentAudit', value: { action, detail } } })]);
	}
}

/** Signed again, the same head has another note. */
function same(left: ChainHead, right: ChainHead): boolean {
	return left.origin === right.origin && left.size === right.size && Buffer.from(left.chain).equals(right.chain);
}

function text({ origin, size, chain }: ChainHead): string {
	return `${origin.slice(0, 256)} ${size} ${Buffer.from(chain).toString('base64')}`;
}
