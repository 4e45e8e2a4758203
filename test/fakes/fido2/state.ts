import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** What a key remembers, and whether it is there at all. */
export interface KeyState {
	readonly name: string;
	readonly hasPin: boolean;
	readonly isPluggedIn: boolean;
	readonly counter: number;
	/** By id in hex: the private key, PKCS #8 in PEM. */
	readonly credentials: Readonly<Record<string, string>>;
}

export function readState(folder: string): KeyState {
	return JSON.parse(readFileSync(join(folder, 'state.json'), 'utf8')) as KeyState;
}

export function writeState(folder: string, state: KeyState): void {
	writeFileSync(join(folder, 'state.json'), JSON.stringify(state));
}
