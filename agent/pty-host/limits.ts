/** Every bound of the pty host in one place: the value, its unit in the name, and why. */

/** A screen with all its scrollback in colours must fit. */
export const frameBytesMax = 4 << 20;
/** Of a snapshot: what the contract takes (terminals.v1.Screen). A colourful one has less scrollback. */
export const screenBytesMax = 3_000_000;
/** Data of one frame: large enough that bulk costs few frames, small enough that a keystroke's echo never waits long. */
export const dataBytesMax = 64 << 10;
/** A flood that comes in smaller pieces goes together (flush-pace.ts): a third of a terminal's window, half a read of a pipe. */
export const ttyGatherBytes = 32 << 10;
export const pipeGatherBytes = 32 << 10;
/** Unacknowledged output of a terminal: past it the program waits, so that Ctrl-C isn't followed by a minute of backlog. */
export const ttyWindowBytes = 100_000;
export const ttyResumeBytes = 5_000;
/** Without a terminal: 40 MB/s at 50 ms of round trip, as ssh's own window. */
export const pipeWindowBytes = 2 << 20;
/**
 * Soon: from far away what is acknowledged meanwhile would leave the way half empty. One acknowledgement of 256 KiB does, also
 * where the last read went past the window.
 */
export const pipeResumeBytes = (1792 << 10) + dataBytesMax;
/** Bytes of stdin that wait for the program: what the agent may send ahead. */
export const stdinWindowBytes = 2 << 20;
/** Of what the program took the other side is told after so many bytes, or after this time: long for a processor, short for a window. */
export const stdinAckBytes = 32 << 10;
export const stdinAckDelayMs = 5;
/** Output that the screen has not looked at: small, because every terminal may have as much. */
export const screenBacklogBytes = 128 << 10;
/** Behind by this much the program waits for the screen, also when nobody is attached. */
export const screenBacklogBytesMax = 2 << 20;
export const scrollbackLines = 1000;
/** The kernel's fields are 16 bits; nobody has a larger window, and a screen costs 12 bytes a cell. */
export const columnsMax = 1000;
export const rowsMax = 1000;
export const connectionsMax = 16;
export const requestsInFlightMax = 1024;
/** Cut a connection that reads nothing of what it asked for. */
export const unsentBytesMax = 256 << 20;
/** Between SIGHUP and SIGKILL: a lock must end a terminal within a second. */
export const hangUpGraceMs = 400;
/** After the last process is killed, its terminal should close at once; if it doesn't, we close our end. */
export const closeGraceMs = 5_000;
/** Ended channels that nobody forgot; the oldest goes first. */
export const endedMax = 1024;

export interface PtyHostConfig {
	/** Each costs a pty (kernel.pty.max is 4096) and up to 2 MB. */
	readonly channelsMax: number;
	readonly cgroup: 'auto' | 'delegated' | 'off';
}

export const defaultPtyHostConfig: PtyHostConfig = Object.freeze({ channelsMax: 256, cgroup: 'auto' });
