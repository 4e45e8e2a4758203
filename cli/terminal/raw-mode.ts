import { spawnSync } from 'node:child_process';

/** Of stdin; a pipe has none. */
interface Keys {
	readonly isTTY?: boolean;
	readonly fd?: number;
	setRawMode?(isRaw: boolean): unknown;
}

/** It only sets a flag. */
const STTY_MS_MAX = 2000;

/**
 * Nothing stands between keys and whoever reads them, nor between what is written and the screen. Node's raw mode leaves
 * output to the line discipline, which puts a carriage return before each line feed: programs that draw mean none by it,
 * and a flood goes through it a byte at a time. Where there is no `stty`, that stays.
 */
export function setRaw(keys: Keys): void {
	keys.setRawMode?.(true);
	if (keys.isTTY === true && keys.fd !== undefined)
		spawnSync('stty', ['-opost'], { stdio: [keys.fd, 'ignore', 'ignore'], timeout: STTY_MS_MAX });
}

/** As it was before. */
export function setCooked(keys: Keys): void {
	keys.setRawMode?.(false);
}
