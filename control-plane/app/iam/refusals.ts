import { type Clock, every, type Timer } from '../../../kit/clock.ts';
import type { GpuaasError } from '../../../kit/error.ts';
import { messageOf } from '../../../kit/error.ts';
import type { RequestContext } from '../../context.ts';
import type { Store } from '../../store/port/store.ts';
import type { AppendAudit, AuditEvent } from '../audit/event.ts';

/**
 * Audit of what was refused, in a unit of its own. A caller who is refused in a loop must not be able to fill the log:
 * of the same caller, method and reason only the first in a window is written at once, the others are counted into one
 * record at the window's end; past `KEYS_MAX` different ones, all share one record.
 */
const WINDOW_MS = 60_000;
const KEYS_MAX = 1024;

interface Tally {
	readonly ctx: RequestContext;
	readonly event: AuditEvent;
	count: number;
}

export interface RefusalLogOptions {
	readonly store: Store;
	readonly clock: Clock;
	readonly appendAudit: AppendAudit;
}

export class RefusalLog implements AsyncDisposable {
	readonly #options: RefusalLogOptions;
	readonly #timer: Timer;
	#tallies = new Map<string, Tally>();

	constructor(options: RefusalLogOptions) {
		this.#options = options;
		this.#timer = every(
			options.clock,
			WINDOW_MS,
			() => void this.flush(),
			() => {},
		);
	}

	/** Resolves when the record is durable or only counted; never rejects: the caller is refused in any case. */
	async record(ctx: RequestContext, action: string, target: string, error: GpuaasError): Promise<void> {
		const denied = DENIED.has(error.code);
		const event: AuditEvent = { action, target, result: denied ? 'denied' : 'failed', reason: error.reason };
		const who = ctx.actor.id === '' ? `peer ${ctx.peer}` : ctx.actor.id;
		const key = this.#tallies.size < KEYS_MAX ? `${who}\n${ctx.method}\n${error.reason}` : 'others';
		const known = this.#tallies.get(key);
		if (known !== undefined) {
			known.count += 1;
			return;
		}
		this.#tallies.set(key, {
			ctx,
			event: key === 'others' ? { ...event, action: 'refusals', target: '' } : event,
			count: 0,
		});
		await this.#append(ctx, event);
	}

	/** Writes what was only counted and starts a new window. */
	async flush(): Promise<void> {
		const ended = this.#tallies;
		this.#tallies = new Map();
		for (const { ctx, event, count } of ended.values())
			if (count > 0) await this.#append(ctx, { ...event, detail: { coalesced: count } });
	}

	async #append(ctx: RequestContext, event: AuditEvent): Promise<void> {
		try {
			await this.#options.store.unit((tx) => this.#options.appendAudit(tx, ctx, event));
		} catch (error) {
			ctx.log.error('a refusal could not be audited', {
				action: event.action,
				reason: event.reason,
				why: messageOf(error),
			});
		}
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#timer.cancel();
		await this.flush();
	}
}

const DENIED: ReadonlySet<string> = new Set(['UNAUTHENTICATED', 'PERMISSION_DENIED', 'NOT_FOUND']);
