import { type Clock, every, type Timer } from '../../../kit/clock.ts';
import type { GpuaasError } from '../../../kit/error.ts';
import { messageOf } from '../../../kit/error.ts';
import type { RequestContext } from '../../context.ts';
import type { Store } from '../../store/port/store.ts';
import type { AppendAudit, AuditEvent } from '../audit/event.ts';

/**
 * Audit of what was refused, in a unit of its own. A caller who is refused in a loop must not be able to fill the log:
 * of the same caller, method and reason only the first in a window is written at once, the others are counted into one
 * record at the window's end; past a number of different ones, all that is left of an organization shares one record.
 */
const WINDOW_MS = 60_000;
const KEYS_MAX = 1024;
/** Of one organization: so that none of them, and no stranger, takes the room of another. */
const KEYS_PER_ORGANIZATION_MAX = 64;
/** Of all organizations; past it, what is left is counted into the platform's records. */
const KEYS_ALL_MAX = 65_536;

interface Tally {
	readonly ctx: RequestContext;
	readonly events: readonly AuditEvent[];
	count: number;
}

/** What was refused, and in whose audit that belongs; none: the platform's. */
export interface Refused {
	readonly action: string;
	readonly target: string;
	readonly organizations: readonly string[];
}

export interface RefusalLogOptions {
	readonly store: Pick<Store, 'unit'>;
	readonly clock: Clock;
	readonly appendAudit: AppendAudit;
}

export class RefusalLog implements AsyncDisposable {
	readonly #options: RefusalLogOptions;
	readonly #timer: Timer;
	#tallies = new Map<string, Tally>();
	/** Tallies by whose they are. */
	#used = new Map<string, number>();

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
	async record(ctx: RequestContext, { action, target, organizations }: Refused, error: GpuaasError): Promise<void> {
		const result = DENIED.has(error.code) ? 'denied' : 'failed';
		const event: AuditEvent = { action, target, result, reason: error.reason };
		const who = ctx.actor.id === '' ? `peer ${ctx.peer}` : ctx.actor.id;
		const of = organizations.length === 0 || this.#tallies.size >= KEYS_ALL_MAX ? [''] : organizations;
		const used = this.#used.get(of.join()) ?? 0;
		const isFull = used >= (of[0] === '' ? KEYS_MAX : KEYS_PER_ORGANIZATION_MAX);
		// What was refused to one organization's people is never counted into another's record.
		const key = isFull ? `others ${of.join()}` : `${who}\n${ctx.method}\n${error.reason}\n${of.join()}`;
		const known = this.#tallies.get(key);
		if (known !== undefined) {
			known.count += 1;
			return;
		}
		const first = isFull ? { ...event, action: 'refusals', target: '' } : event;
		const events = of.map((organization) => (organization === '' ? first : { ...first, organization }));
		const tally: Tally = { ctx, events, count: 0 };
		this.#tallies.set(key, tally);
		this.#used.set(of.join(), used + 1);
		// What could not be written is counted, as those are that come after it.
		if (!(await this.#append(ctx, events))) tally.count += 1;
	}

	/** Writes what was only counted and starts a new window. */
	async flush(): Promise<void> {
		const ended = this.#tallies;
		this.#tallies = new Map();
		this.#used = new Map();
		for (const [key, { ctx, events, count }] of ended) {
			if (count === 0) continue;
			const counted = events.map((event) => ({ ...event, detail: { coalesced: count } }));
			if (!(await this.#append(ctx, counted))) this.#keep(key, { ctx, events, count });
		}
	}

	/** For the next window: the store may be back by then. */
	#keep(key: string, tally: Tally): void {
		const known = this.#tallies.get(key);
		if (known !== undefined) known.count += tally.count;
		else if (this.#tallies.size < KEYS_ALL_MAX) this.#tallies.set(key, tally);
	}

	/** Whether it is on record. */
	async #append(ctx: RequestContext, events: readonly AuditEvent[]): Promise<boolean> {
		const { store, appendAudit } = this.#options;
		try {
			await store.unit(function* (tx) {
				for (const event of events) yield* appendAudit(tx, ctx, event);
			});
			return true;
		} catch (error) {
			const [event] = events;
			ctx.log.error('a refusal could not be audited', {
				action: event?.action,
				reason: event?.reason,
				why: messageOf(error),
			});
			return false;
		}
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#timer.cancel();
		await this.flush();
	}
}

const DENIED: ReadonlySet<string> = new Set(['UNAUTHENTICATED', 'PERMISSION_DENIED', 'NOT_FOUND']);
