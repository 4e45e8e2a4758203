import type { ChannelSize, OutputName } from './pty-host.ts';

/** A running program as a channel sees it, with a terminal (pty-program.ts) or with three pipes (pipe-program.ts). */
export interface Program {
	/** Leads a session and a process group of its own. */
	readonly pid: number;
	/** Calls `done` when the program's end has taken the bytes; `done` may never come once the program has ended. */
	write(bytes: Uint8Array, done: () => void): void;
	/** Nothing more will be written. A terminal has no end of its own: it is left alone. */
	endInput(): void;
	pause(stream: OutputName): void;
	resume(stream: OutputName): void;
	resize(size: ChannelSize): void;
	/** Closes our ends, whoever holds the others. */
	destroy(): void;
}

export interface ProgramExit {
	readonly exitCode?: number;
	readonly signal?: number;
	/** Beside it, or in its place. */
	readonly message?: string;
	/** Instead of TERMINAL_EXITED: nobody knows how it ended. */
	readonly reason?: string;
}

export interface ProgramEvents {
	onData(stream: OutputName, bytes: Buffer): void;
	/** Nothing follows on this stream. */
	onEnd(stream: OutputName): void;
	/** The leader has ended; output may follow. */
	onExit(exit: ProgramExit): void;
}

/** Started in `/`. */
export interface Launch {
	readonly file: string;
	readonly args: readonly string[];
	readonly env: Readonly<Record<string, string>>;
}
