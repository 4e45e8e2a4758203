import { createHash } from 'node:crypto';
import { GpuaasError } from '../../../kit/error.ts';
import { chainPointOf } from '../../../pki/verify/chain-head.ts';
import type { RequestContext } from '../../context.ts';
import type { Store } from '../../store/port/store.ts';
import type { HeadAnchor } from './anchor.ts';
import { discontinuity } from './discontinuity.ts';
import type { AppendAudit } from './event.ts';

/**
 * Begins a new log after a loss that can't be restored. The records that are left stay and are continued; the first
 * record of the new log says who began it and why, and cites the head that was lost by size and digest, so that whoever
 * holds that head can show what is missing. Only for a log that is broken: one that is whole is never given up. Called by
 * control-plane/new-audit-log.ts while the control plane is stopped, since it refuses privileged calls then anyway.
 */
export interface NewLog {
	readonly origin: string;
	readonly number: number;
	readonly reason: string;
}

export interface LostHead {
	readonly size: number;
	readonly note: string;
	readonly why: string;
}

/** Throws FAILED_PRECONDITION when nothing was lost. */
export async function recordNewLog(
	deps: { readonly store: Store; readonly anchor: HeadAnchor; readonly appendAudit: AppendAudit },
	ctx: RequestContext,
	log: NewLog,
): Promise<LostHead> {
	const { store, anchor, appendAudit } = deps;
	const { endSeq, head } = await store.read(function* (tx) {
		const last = yield* tx.audit.last();
		return { endSeq: last?.seq ?? 0, head: yield* tx.audit.lastHead() };
	});
	let lost: LostHead | undefined;
	for (const [what, signed] of [
		['the newest head in the anchor', anchor.newest()],
		['the newest head in the database', head],
	] as const) {
		if (signed === undefined) continue;
		// Settings of another control plane would make a whole log look broken.
		if (chainPointOf(signed.note)?.origin !== log.origin) throw otherLog(what, log.origin);
		const why = await discontinuity(store, log.origin, endSeq, what, signed);
		if (why !== undefined && (lost === undefined || signed.size > lost.size)) lost = { ...signed, why };
	}
	if (lost === undefined) throw nothingLost(endSeq);
	const { size, note, why } = lost;
	await store.unit((tx) =>
		appendAudit(tx, ctx, {
			action: 'audit.new-log',
			target: 'audit',
			result: 'ok',
			reason: '',
			detail: {
				log: log.number,
				former_origin: log.origin,
				lost_head_size: size,
				lost_head_sha256: createHash('sha256').update(note, 'utf8').digest('hex'),
				records_left: endSeq,
			},
			personal: { reason: log.reason },
		}),
	);
	return { size, note, why };
}

function otherLog(what: string, origin: string): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'CONFIG_INVALID',
		message: `${what} is not of the log ${origin}: name the configuration that the control plane is started with (--config, --data); nothing was done`,
	});
}

function nothingLost(size: number): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'INVALID_REQUEST',
		message: `the audit log is whole: its ${size} records continue every head that is known here, so there is nothing to begin anew. If privileged calls are refused, look into the control plane's log for the cause`,
	});
}
