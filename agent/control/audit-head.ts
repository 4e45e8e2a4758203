import { create } from '@bufbuild/protobuf';
import type { Logger } from '../../kit/log.ts';
import { type ChainHead, chainPointOf } from '../../pki/verify/chain-head.ts';
import { FactSchema } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { Journal } from '../journal/journal.ts';

/**
 * The newest head of the control plane's audit log that this host was ever shown: a witness that outlives the control
 * plane's database and its files. It only grows. A control plane that was rolled back shows a smaller head, or another
 * one of the same size; that is said here, put on record, and never stored over the evidence. This host has no key to
 * check heads with: whoever compares them does.
 *
 * One for each connection, so that the same finding is told once in each. Called by link.ts.
 */
export const AUDIT_HEAD = 'link.audit_head';
export const HEAD_WENT_BACK = 'audit.head-went-back';

export class KeptAuditHead {
	readonly #journal: Journal;
	readonly #log: Logger;
	#told = false;

	constructor(journal: Journal, log: Logger) {
		this.#journal = journal;
		this.#log = log;
	}

	/** For Hello; empty before the first. */
	note(): string {
		return this.#journal.getSetting(AUDIT_HEAD) ?? '';
	}

	/** A head that the control plane shows; empty before its first. */
	shown(note: string): void {
		const kept = this.note();
		if (note === kept) return;
		const shownHead = chainPointOf(note);
		// None is no news: a control plane that can't sign shows none.
		if (shownHead === undefined) return;
		const keptHead = chainPointOf(kept);
		const isNewer = keptHead === undefined || (keptHead.origin === shownHead.origin && keptHead.size < shownHead.size);
		if (isNewer) this.#journal.putSetting(AUDIT_HEAD, note);
		else if (!same(keptHead, shownHead)) this.#wentBack(keptHead, shownHead);
	}

	#wentBack(kept: ChainHead, shown: ChainHead): void {
		if (this.#told) return;
		this.#told = true;
		this.#log.error(
			'the control plane shows an older or another audit log than before: it was restored from an old backup, or its log was cut off or forked. The newest head is kept as evidence; show it to the platform operator',
			{ kept: text(kept), shown: text(shown) },
		);
		const detail = `kept ${text(kept)}; shown ${text(shown)}`;
		this.#journal.appendFacts([
			create(FactSchema, { fact: { case: 'agentAudit', value: { action: HEAD_WENT_BACK, detail } } }),
		]);
	}
}

/** Signed again, the same head has another note. */
function same(left: ChainHead, right: ChainHead): boolean {
	return left.origin === right.origin && left.size === right.size && Buffer.from(left.chain).equals(right.chain);
}

function text({ origin, size, chain }: ChainHead): string {
	return `${origin.slice(0, 256)} ${size} ${Buffer.from(chain).toString('base64')}`;
}
