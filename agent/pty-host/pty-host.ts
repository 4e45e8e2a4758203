import type { Confinement, DeviceMechanism } from '../platform/device-rules.ts';

/**
 * The port through which the agent runs what people sit in front of: shells, commands, copies, forwards. Implemented
 * over a unix socket (client.ts) by a process of its own, which outlives the agent.
 *
 * Invariants:
 * - one effect per channel id: opening it again starts nothing and answers KNOWN;
 * - each stream is numbered by offset; what was not acknowledged can be sent again, or (with a terminal) is replaced by
 *   the screen; nothing is sent twice without being asked for;
 * - nobody who reads slowly costs more than a window: the program waits. With a terminal and nobody attached it goes on
 *   and only the screen is kept; without a terminal it waits;
 * - a channel that ended stays until `forget`, and its program's whole session is gone.
 */
export type OutputName = 'stdout' | 'stderr';

export interface ChannelSize {
	readonly columns: number;
	readonly rows: number;
}

export interface ChannelLimits {
	readonly memoryBytes?: number;
	readonly processes?: number;
	readonly openFiles?: number;
	readonly cpuSeconds?: number;
	/** CPUs: 1.5 is one and a half. */
	readonly cpuQuota?: number;
}

export interface OpenRequest {
	readonly id: string;
	readonly argv: readonly string[];
	/** The whole environment: nothing is inherited. */
	readonly env: Readonly<Record<string, string>>;
	readonly cwd: string;
	/** The mapped unix user. */
	readonly user: string;
	/** Absent: three pipes. */
	readonly tty?: ChannelSize;
	readonly limits: ChannelLimits;
	/** Absent: whatever devices the user may open. */
	readonly confine?: Confinement;
}

export type OpenRefusal =
	| 'INVALID_REQUEST'
	| 'COMMAND_NOT_FOUND'
	| 'COMMAND_NOT_EXECUTABLE'
	| 'CWD_MISSING'
	| 'USER_UNKNOWN'
	| 'USER_SWITCH_UNAVAILABLE'
	| 'TOO_MANY_TERMINALS'
	| 'DEVICE_ISOLATION_UNAVAILABLE'
	| 'SPAWN_FAILED';

export type OpenOutcome =
	| { readonly kind: 'OPENED'; readonly pid: number }
	/** It was opened before. */
	| { readonly kind: 'KNOWN' }
	| { readonly kind: 'REFUSED'; readonly reason: OpenRefusal; readonly message: string };

export interface ChannelOutcome {
	readonly exitCode?: number;
	readonly signal?: number;
	/** common.v1.Reason without its prefix. */
	readonly reason: string;
	readonly message: string;
}

export interface ChannelStatus {
	readonly id: string;
	readonly user: string;
	readonly tty: boolean;
	/** Of its terminal now. */
	readonly size?: ChannelSize;
	readonly offsets: Offsets;
	/** Set once it ended. */
	readonly outcome?: ChannelOutcome;
}

/** `stdin`: next byte that is taken; of pipes whoever sends it has kept what their program was not given. The others: first byte that can still be sent. */
export interface Offsets {
	readonly stdin: number;
	readonly stdout: number;
	readonly stderr: number;
}

/** What an attached channel tells, in order. */
export interface ChannelListener {
	onOutput(stream: OutputName, offset: number, bytes: Buffer, end: boolean): void;
	/** The program was given everything of stdin below. */
	onStdinAck(offset: number): void;
	/** Takes the place of all output below `offset`. */
	onScreen(offset: number, size: ChannelSize, bytes: Buffer): void;
	/** After all output. */
	onEnd(outcome: ChannelOutcome): void;
}

export interface Attachment {
	write(offset: number, bytes: Uint8Array, end: boolean): void;
	ack(stream: OutputName, offset: number): void;
	resize(size: ChannelSize): void;
	requestScreen(): void;
	signal(name: NodeJS.Signals): void;
	detach(): void;
}

export interface PtyHost {
	/** Resolves when the host is gone. */
	readonly closed: Promise<{ readonly message: string }>;
	/** What holds programs to `confine`; undefined in hosts of older agents, which don't know it. */
	readonly devices: DeviceMechanism | undefined;
	open(request: OpenRequest): Promise<OpenOutcome>;
	list(): Promise<readonly ChannelStatus[]>;
	/** Output from these offsets; a newer attachment takes the place of an older. Undefined when it isn't there. */
	attach(
		id: string,
		from: { readonly stdout: number; readonly stderr: number },
		listener: ChannelListener,
	): Promise<Attachment | undefined>;
	/** Ends the program and its session. */
	end(id: string, reason: string, message: string): Promise<void>;
	/** One that still runs, or ends, is forgotten once it is over. */
	forget(id: string): Promise<void>;
	/** The devices of everybody who is confined, from now on; rejects when they could not be set for all. */
	allowDevices(allow: readonly string[]): Promise<void>;
	/** Rejects when the host doesn't answer. */
	ping(): Promise<void>;
	/** Ends the host with all that it runs. */
	shutdown(): Promise<void>;
	/** Ends the connection only. */
	close(): Promise<void>;
}
