import type { Program } from '../../agent/pty-host/program.ts';
import { startOnPty } from '../../agent/pty-host/pty-program.ts';
import { systemClock } from '../../kit/clock.ts';

/** One program in a terminal of its own, and a person who looks at it. */
export class Line implements Disposable {
	readonly #program: Program;
	#seen = '';
	#wake: () => void = () => {};

	constructor(argv: readonly string[], env: Readonly<Record<string, string>>) {
		const [file = '', ...args] = argv;
		const launch = { file, args, env: { ...env, TERM: 'xterm' }, cwd: '/' };
		this.#program = startOnPty(launch, { columns: 80, rows: 24 }, undefined, {
			onData: (_stream, bytes) => {
				this.#seen += bytes.toString('latin1');
				this.#wake();
			},
			onEnd: () => {},
			onExit: () => {},
		});
	}

	/** ms from the key to its echo. */
	async echo(key: string): Promise<number> {
		this.#seen = '';
		const startedMs = systemClock.monotonic();
		this.#program.write(Buffer.from(key), () => {});
		await this.sees(key);
		return systemClock.monotonic() - startedMs;
	}

	async sees(text: string): Promise<void> {
		while (!this.#seen.includes(text))
			await new Promise<void>((resolve) => {
				this.#wake = resolve;
			});
	}

	[Symbol.dispose](): void {
		this.#program.destroy();
		try {
			process.kill(-this.#program.pid, 'SIGKILL');
		} catch {
			// It ended by itself.
		}
	}
}
