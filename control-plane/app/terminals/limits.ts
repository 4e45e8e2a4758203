/** Every bound of the relay in one place, with its reason. */

/** Sent to one viewer and not acknowledged, past which it gets the screen instead: more than a node sends unacknowledged. */
export const viewerWindowBytes = 256 * 1024;
/** Output that a node may send unacknowledged, by what its pty host holds back; one frame may come on top. */
export const ttyWindowBytes = 100_000;
export const pipeWindowBytes = 2 * 1024 * 1024;
/** Of one frame: what the gateway takes. */
export const frameBytesMax = 128 * 1024;
/** A viewer that fell behind is shown the screen once it has caught up to this. */
export const viewerResumeBytes = 5_000;
/** A viewer that acknowledges nothing for this long is gone, as far as the others and the program are concerned. */
export const viewerStallMs = 5_000;
/** Of one terminal. */
export const viewersMax = 32;
/** Input that the node has not taken: keystrokes, or what a pipe has on its way. */
export const ttyInputBytesMax = 64 * 1024;
export const pipeInputBytesMax = 2 * 1024 * 1024;
/** Above it the node's output waits for the recording. */
export const recorderBacklogBytesMax = 1024 * 1024;
/** With all that may be on its way then, each byte escaped, and the screens of a link that flaps: past it nothing comes in. */
export const recorderBacklogBytesHardMax = 16 * 1024 * 1024;
/** Between the refusal of somebody who is attached and the cut of a stream that doesn't read it. */
export const refusedGraceMs = 1_000;
/** For the last screen of a terminal that has ended. */
export const lastScreenMs = 2_000;
/** An agent that doesn't answer for this long doesn't open: a start is two forks and one round trip. */
export const openingTimeoutMs = 15_000;
/** Of quota, for one that is being opened: past the time in which an unanswered one is closed, which gives it back. */
export const reservedMs = openingTimeoutMs + 60_000;
/** A grant is a one-time order, not a licence. */
export const grantTtlMs = 60_000;

/** A copy or forward whose command is gone, or what an ended program wrote and nobody took: as long as a command tries to come back, nothing comes back to it later. */
export const unattendedGraceMs = 600_000;
/** Signals that wait for the stream of their node: whoever sends more says nothing new by it. */
export const signalsWaitingMax = 16;
