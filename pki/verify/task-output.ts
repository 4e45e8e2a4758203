import { createHash } from 'node:crypto';
import { sha256 } from './signature.ts';

/**
 * `TaskOutcome.output_sha256`: SHA-256(SHA-256(kept stdout) || SHA-256(kept stderr)). It doesn't depend on how the
 * bytes were cut into chunks, so whoever holds the output can check a receipt, and the agent needn't read a large
 * output again in order to sign.
 */
export function outputSha256(stdoutSha256: Uint8Array, stderrSha256: Uint8Array): Uint8Array {
	return sha256(stdoutSha256, stderrSha256);
}

/** The same from the output itself, in chunks of each stream in order. */
export function outputSha256OfChunks(
	chunks: Iterable<{ readonly stream: 'stdout' | 'stderr'; readonly data: Uint8Array }>,
): Uint8Array {
	const hashes = { stdout: createHash('sha256'), stderr: createHash('sha256') };
	for (const { stream, data } of chunks) hashes[stream].update(data);
	return outputSha256(hashes.stdout.digest(), hashes.stderr.digest());
}
