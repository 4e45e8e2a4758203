import { uuidv7 } from '../kit/ids.ts';
import type { Io } from './io.ts';

/** One id a command: a repeated request after a lost answer has one effect (AIP-155). */
export function newRequestId(io: Io): string {
	return uuidv7(io.clock.now(), io.rng);
}
