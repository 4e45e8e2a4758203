/**
 * Bulk passes through buffers. Their memory is outside V8's heap, and is free once V8 finds that they are dead. They die
 * young; but hardly anything else is allocated beside them, so V8 doesn't come to look at young objects before 64 MB of
 * buffers are there, and then it marks its *whole* heap: for every 30 MB of bulk, 44 % of the control plane's CPU time.
 *
 * So whoever takes bulk says how much has come, and the young objects are looked at in time, which costs a millisecond.
 * Where Node wasn't started with `--expose-gc` nothing happens, and V8 does it its own way.
 */
const CAME_BYTES_MAX = 16 * 1024 * 1024;
let cameBytes = 0;

/** So many bytes have come in fresh buffers, and will hardly be copied more than once. */
export function buffersCame(bytes: number): void {
	cameBytes += bytes;
	if (cameBytes < CAME_BYTES_MAX) return;
	cameBytes = 0;
	globalThis.gc?.({ type: 'minor' });
}
