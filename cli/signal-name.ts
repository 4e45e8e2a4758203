import { constants } from 'node:os';

/** `SIGTERM` for 15, as everybody calls it; the number of one that has no name. */
export function signalName(number: number): string {
	const [name] = Object.entries(constants.signals).find(([, value]) => value === number) ?? [];
	return name ?? `signal ${number}`;
}
