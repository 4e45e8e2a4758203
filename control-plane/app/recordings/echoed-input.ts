/**
 * What of the input may be recorded: only what the terminal showed again. A password is typed with echo off, by the
 * kernel's terminal or by a program that reads keys itself, and nothing but the echo tells the two apart; so input waits
 * until output repeats it from its start, and is forgotten when it doesn't soon. Never more than `PENDING_MAX` is held.
 */
const PENDING_CHARACTERS_MAX = 4096;
/** An echo over a slow link; later output that happens to look the same is not one. */
const ECHO_WITHIN_MS = 2000;

export class EchoedInput {
	#pending = '';
	#sinceMs = 0;

	/** A key that shows nothing (Enter, arrows, control) ends what is waiting: whatever follows begins anew. */
	typed(text: string, nowMs: number): void {
		if (nowMs - this.#sinceMs > ECHO_WITHIN_MS || !isShown(text)) this.#pending = '';
		if (!isShown(text)) return;
		if (this.#pending === '') this.#sinceMs = nowMs;
		this.#pending = (this.#pending + text).slice(0, PENDING_CHARACTERS_MAX);
	}

	/** What of the waiting input this output repeats; empty when nothing. */
	shown(text: string, nowMs: number): string {
		if (this.#pending === '') return '';
		if (nowMs - this.#sinceMs > ECHO_WITHIN_MS) {
			this.#pending = '';
			return '';
		}
		// All of the output is a beginning of what was typed, or begins with all of it: chance can't do that for long.
		const echoed = this.#pending.startsWith(text) ? text : text.startsWith(this.#pending) ? this.#pending : '';
		this.#pending = echoed === '' ? '' : this.#pending.slice(echoed.length);
		this.#sinceMs = nowMs;
		return echoed;
	}
}

function isShown(text: string): boolean {
	return text !== '' && !/\p{Cc}/u.test(text);
}
