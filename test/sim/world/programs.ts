import { createHash } from 'node:crypto';
import { assert } from '../../../kit/assert.ts';

/**
 * What simulated programs do: their argv says it all, so that a task does the same wherever and whenever it runs.
 * `/sim <durationMs> <exitCode> <outputBytes> <manners>`.
 */
export type Manners = 'polite' | 'stubborn' | 'missing';

export interface Program {
	readonly durationMs: number;
	readonly exitCode: number;
	readonly outputBytes: number;
	/** `stubborn` programs don't end on SIGTERM; `missing` ones can't be started. */
	readonly manners: Manners;
}

export const PROGRAM_PATH = '/sim';

export function argvOf({ durationMs, exitCode, outputBytes, manners }: Program): string[] {
	return [PROGRAM_PATH, String(durationMs), String(exitCode), String(outputBytes), manners];
}

export function programOf(argv: readonly string[]): Program {
	const [path, durationMs, exitCode, outputBytes, manners] = argv;
	assert(path === PROGRAM_PATH, `a simulated host runs ${PROGRAM_PATH} only`);
	const isManners = manners === 'polite' || manners === 'stubborn' || manners === 'missing';
	assert(isManners, 'a simulated program has manners');
	return {
		durationMs: Number(durationMs),
		exitCode: Number(exitCode),
		outputBytes: Number(outputBytes),
		manners,
	};
}

export interface Written {
	readonly offset: number;
	readonly stream: 'stdout' | 'stderr';
	readonly bytes: Uint8Array;
	/** Left out by the cap. */
	readonly dropped: boolean;
}

const CHUNK_BYTES = 4096;

/** What a program writes, in order; of more than the cap the first and the last half are kept. */
export function outputOf(name: string, outputBytes: number, capBytes: number): readonly Written[] {
	const chunks: Written[] = [];
	for (let offset = 0; offset < outputBytes; offset += CHUNK_BYTES) {
		const length = Math.min(CHUNK_BYTES, outputBytes - offset);
		const pattern = createHash('sha256').update(`${name} ${offset}`).digest();
		const bytes = new Uint8Array(length);
		for (let index = 0; index < length; index += 1) bytes[index] = pattern[index % pattern.length] ?? 0;
		const isMiddle = outputBytes > capBytes && offset >= capBytes / 2 && offset + length <= outputBytes - capBytes / 2;
		const stream = (pattern[0] ?? 0) < 64 ? 'stderr' : 'stdout';
		chunks.push({ offset, stream, bytes, dropped: isMiddle });
	}
	return chunks;
}
