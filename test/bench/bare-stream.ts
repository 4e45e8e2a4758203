/** What the bare streams of idle-agents.ts say: opaque bytes, as many as those of a real agent. */
export const BARE_PATH = '/bench.Bare/Stream';

/** A telemetry frame of a small host, and a heartbeat; the answer to the latter. */
export const TELEMETRY_BYTES = 420;
export const HEARTBEAT_BYTES = 90;
export const ACK_BYTES = 20;

/** As the agent's and the gateway's. */
export const STREAM_WINDOW_BYTES = 1024 * 1024;

export function identity(bytes: Buffer): Buffer {
	return bytes;
}
