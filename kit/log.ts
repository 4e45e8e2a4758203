import { AsyncLocalStorage } from 'node:async_hooks';
import { writeSync } from 'node:fs';
import { pino } from 'pino';
import { type Clock, systemClock } from './clock.ts';
import { redactText, redactValue } from './redact.ts';

/**
 * Structured logs, one JSON document a line. Owns pino and the correlation id: this is the only place where
 * AsyncLocalStorage is used, and only to stamp lines. Invariant: no line leaves with a recognisable secret in it
 * (kit/redact.ts). Every process makes one root logger in its main and passes children down.
 */
export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';

export const LOG_LEVELS: readonly LogLevel[] = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];

/** Facts beside the message, in the field's words (`node`, `task`, `attempt`). An error goes under `error`. */
export type LogFields = Readonly<Record<string, unknown>>;

export interface Logger {
	trace(message: string, fields?: LogFields): void;
	debug(message: string, fields?: LogFields): void;
	info(message: string, fields?: LogFields): void;
	warn(message: string, fields?: LogFields): void;
	error(message: string, fields?: LogFields): void;
	/** The process is about to end because of this. */
	fatal(message: string, fields?: LogFields): void;
	/** Same destination and level; `fields` are on every line. */
	child(fields: LogFields): Logger;
	isEnabled(level: Exclude<LogLevel, 'silent'>): boolean;
}

export interface LoggerOptions {
	/** The program: `control-plane`, `node-agent`, `process-host`. */
	readonly name: string;
	readonly level?: LogLevel;
	/** Gets whole lines, with their line end. Default: standard error, written at once so that a crash loses none. */
	readonly destination?: { write(line: string): void };
	readonly clock?: Clock;
}

const correlation = new AsyncLocalStorage<string>();
const CORRELATION_ID = /^[A-Za-z0-9._:-]{1,64}$/;

/** Runs `work`; every line logged in it, and in what it awaits, carries `correlationId`. */
export function withCorrelation<T>(correlationId: string, work: () => T): T {
	return correlation.run(correlationId, work);
}

/** The id of the surrounding `withCorrelation`, for putting on outgoing calls. */
export function correlationId(): string | undefined {
	return correlation.getStore();
}

/** Whether an id that a caller sent may be used as it is; anything else must be replaced by one of ours. */
export function isCorrelationId(text: string): boolean {
	return CORRELATION_ID.test(text);
}

export function createLogger(options: LoggerOptions): Logger {
	const clock = options.clock ?? systemClock;
	const root = pino(
		{
			level: options.level ?? 'info',
			base: { program: options.name, pid: process.pid },
			messageKey: 'message',
			timestamp: () => `,"time":"${new Date(clock.now()).toISOString()}"`,
			formatters: { level: (label) => ({ level: label }) },
			mixin: () => {
				const id = correlation.getStore();
				return id === undefined ? {} : { correlation_id: id };
			},
			// The last word: whatever path a secret took into the line, it is matched in the serialised text.
			hooks: { streamWrite: redactText },
		},
		options.destination ?? new StandardError(),
	);
	return new PinoLogger(root);
}

const STDERR = 2;
/** A pipe whose reader is slow, and that somebody made non-blocking. */
const WRITE_TRIES_MAX = 1000;

/**
 * Standard error, line by line. A full disk or a reader that went away must not end the process that logs: what can't be
 * written is dropped and counted, and the next line that can be written is followed by the count.
 */
export class StandardError {
	readonly #writeSome: (bytes: Uint8Array, offset: number) => number;
	#lost = 0;

	constructor(writeSome = (bytes: Uint8Array, offset: number) => writeSync(STDERR, bytes, offset)) {
		this.#writeSome = writeSome;
	}

	write(line: string): void {
		if (!this.#put(line)) {
			this.#lost += 1;
			return;
		}
		const message = `${this.#lost} lines before this one were lost: they could not be written`;
		if (this.#lost > 0 && this.#put(`${JSON.stringify({ level: 'error', message })}\n`)) this.#lost = 0;
	}

	#put(line: string): boolean {
		const bytes = Buffer.from(line, 'utf8');
		let written = 0;
		for (let tries = 0; written < bytes.length && tries < WRITE_TRIES_MAX; tries += 1) {
			try {
				written += this.#writeSome(bytes, written);
			} catch (error) {
				if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return false;
			}
		}
		return written === bytes.length;
	}
}

/** For code that must be given a logger and whose output nobody reads. */
export const silentLogger: Logger = {
	trace: () => {},
	debug: () => {},
	info: () => {},
	warn: () => {},
	error: () => {},
	fatal: () => {},
	child: () => silentLogger,
	isEnabled: () => false,
};

class PinoLogger implements Logger {
	readonly #pino: pino.Logger;

	constructor(inner: pino.Logger) {
		this.#pino = inner;
	}

	trace(message: string, fields?: LogFields): void {
		this.#write('trace', message, fields);
	}
	debug(message: string, fields?: LogFields): void {
		this.#write('debug', message, fields);
	}
	info(message: string, fields?: LogFields): void {
		this.#write('info', message, fields);
	}
	warn(message: string, fields?: LogFields): void {
		this.#write('warn', message, fields);
	}
	error(message: string, fields?: LogFields): void {
		this.#write('error', message, fields);
	}
	fatal(message: string, fields?: LogFields): void {
		this.#write('fatal', message, fields);
	}

	child(fields: LogFields): Logger {
		return new PinoLogger(this.#pino.child(redactValue(fields) as object));
	}

	isEnabled(level: Exclude<LogLevel, 'silent'>): boolean {
		return this.#pino.isLevelEnabled(level);
	}

	#write(level: Exclude<LogLevel, 'silent'>, message: string, fields: LogFields | undefined): void {
		if (!this.#pino.isLevelEnabled(level)) return;
		if (fields === undefined) this.#pino[level](message);
		// Copied first: serialising may not run arbitrary toJSON, meet a cycle, or print bytes of a key.
		else this.#pino[level](withoutMessage(redactValue(fields) as LogFields), message);
	}
}

/** A field called `message` would stand twice in the line, and readers keep only one: it becomes `detail`. */
function withoutMessage(fields: LogFields): LogFields {
	if (!('message' in fields)) return fields;
	const { message: detail, ...rest } = fields;
	return { ...rest, detail };
}
