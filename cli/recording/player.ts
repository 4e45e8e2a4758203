import type { CastEvent } from '../../kit/asciicast.ts';
import { type Clock, sleep } from '../../kit/clock.ts';

/** Plays what a terminal showed at its own pace, faster or slower, with long pauses cut; or step by step. */
export interface PlayerOptions {
	readonly clock: Clock;
	/** 1: as it was; 2: twice as fast. Infinity: without any pause. */
	readonly speed: number;
	/** No pause is longer. */
	readonly idleLimitMs: number;
	readonly show: (text: string) => Promise<void>;
}

const GAP = /^(gap|truncated): /;
const SPEED_MIN = 1 / 16;
const SPEED_MAX = 64;

export class Player {
	readonly #options: PlayerOptions;
	#speed: number;
	#isPaused = false;
	#steps = 0;
	#quit = new AbortController();
	/** Ends the wait of now: something changed. */
	#wake = new AbortController();

	constructor(options: PlayerOptions) {
		this.#options = options;
		this.#speed = options.speed;
	}

	get isPaused(): boolean {
		return this.#isPaused;
	}

	get speed(): number {
		return this.#speed;
	}

	togglePause(): void {
		this.#isPaused = !this.#isPaused;
		this.#ring();
	}

	/** While paused: up to the next output. */
	step(): void {
		if (this.#isPaused) this.#steps += 1;
		this.#ring();
	}

	faster(): void {
		this.#speed = Math.min(SPEED_MAX, this.#speed * 2);
		this.#ring();
	}

	slower(): void {
		this.#speed = Math.max(SPEED_MIN, this.#speed / 2);
		this.#ring();
	}

	quit(): void {
		this.#quit.abort();
		this.#ring();
	}

	/** Resolves at the end, or when somebody quits. */
	async play(events: AsyncIterable<CastEvent>): Promise<void> {
		let lastMs = 0;
		for await (const { atMs, code, text } of events) {
			if (this.#quit.signal.aborted) return;
			const gapMs = Math.min(this.#options.idleLimitMs, Math.max(0, atMs - lastMs));
			lastMs = atMs;
			await this.#wait(gapMs, code === 'o');
			if (this.#quit.signal.aborted) return;
			if (code === 'o') await this.#options.show(text);
			// The recording's own word for what is missing; the screen after it draws over this.
			else if (code === 'm' && GAP.test(text)) await this.#options.show(`\r\n[${text}]\r\n`);
		}
	}

	/** So much of the recording's own time, at whatever speed it is by then. */
	async #wait(gapMs: number, isOutput: boolean): Promise<void> {
		let leftMs = gapMs;
		while (!this.#quit.signal.aborted) {
			this.#wake = new AbortController();
			if (this.#isPaused) {
				if (this.#steps > 0) {
					if (isOutput) this.#steps -= 1;
					return;
				}
				await new Promise<void>((resolve) =>
					this.#wake.signal.addEventListener('abort', () => resolve(), { once: true }),
				);
				continue;
			}
			if (leftMs <= 0 || this.#speed === Number.POSITIVE_INFINITY) return;
			const { clock } = this.#options;
			const [startMs, speed] = [clock.monotonic(), this.#speed];
			await sleep(clock, leftMs / speed, this.#wake.signal);
			leftMs -= (clock.monotonic() - startMs) * speed;
			if (!this.#wake.signal.aborted) return;
		}
	}

	#ring(): void {
		this.#wake.abort();
	}
}

export const PLAYER_KEYS = 'space pauses, . shows the next output, + and - change the speed, q ends';

export function pressed(player: Player, key: string): void {
	switch (key) {
		case ' ':
			player.togglePause();
			break;
		case '.':
			player.step();
			break;
		case '+':
		case '=':
			player.faster();
			break;
		case '-':
			player.slower();
			break;
		case 'q':
		case '\u0003':
		case '\u0004':
			player.quit();
	}
}
