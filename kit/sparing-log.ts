import { assert } from './assert.ts';
import type { Clock } from './clock.ts';
import { TokenBucket } from './limits.ts';
import type { LogFields, Logger } from './log.ts';

/**
 * For what somebody outside can cause as often as they like (refused connections, calls, streams), and for what comes again
 * as often as it is tried, like a write to a full disk. Of each message some lines are written at once and then a few a
 * minute; the others are counted, and the next line says how many there were. Without it a stranger fills the disk that the
 * log is on, a disk that is full is filled further, and the process is kept writing.
 */
const LINES_AT_ONCE = 20;
const LINES_PER_MINUTE = 12;
/** Messages are texts of ours; more would be a message with something of the caller's in it. */
const MESSAGES_MAX = 64;

export class SparingLog {
	readonly #log: Logger;
	readonly #clock: Clock;
	readonly #byMessage = new Map<string, { readonly bucket: TokenBucket; leftOut: number }>();

	constructor(log: Logger, clock: Clock) {
		this.#log = log;
		this.#clock = clock;
	}

	warn(message: string, fields: LogFields): void {
		this.#say('warn', message, fields);
	}

	error(message: string, fields: LogFields): void {
		this.#say('error', message, fields);
	}

	#say(level: 'warn' | 'error', message: string, fields: LogFields): void {
		const said = this.#said(message);
		if (said.bucket.take() > 0) {
			said.leftOut += 1;
			return;
		}
		this.#log[level](message, said.leftOut === 0 ? fields : { ...fields, leftOut: said.leftOut });
		said.leftOut = 0;
	}

	#said(message: string): { readonly bucket: TokenBucket; leftOut: number } {
		const known = this.#byMessage.get(message);
		if (known !== undefined) return known;
		assert(this.#byMessage.size < MESSAGES_MAX, 'a message is a text of ours; what differs goes into the fields');
		const made = { bucket: new TokenBucket(this.#clock, LINES_PER_MINUTE / 60, LINES_AT_ONCE), leftOut: 0 };
		this.#byMessage.set(message, made);
		return made;
	}
}
