import { readdirSync, readFileSync } from 'node:fs';

/** Small files of the kernel: what is missing or refused is undefined, because the host may be anything. */
export function readText(path: string): string | undefined {
	try {
		return readFileSync(path, 'latin1').trim();
	} catch {
		return undefined;
	}
}

/** NaN when there is no number at the start of it; `/sys` likes "4: ACTIVE". */
export function readNumber(path: string): number {
	const value = readText(path);
	return value === undefined || value === '' ? Number.NaN : Number.parseFloat(value);
}

export function listFolder(path: string): readonly string[] {
	try {
		return readdirSync(path).sort();
	} catch {
		return [];
	}
}
