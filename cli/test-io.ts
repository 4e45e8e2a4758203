import { Readable, Writable } from 'node:stream';
import { systemClock } from '../kit/clock.ts';
import { systemRng } from '../kit/ids.ts';
import type { Io } from './io.ts';

/** For tests: an `Io` that remembers what was written. */
export interface TestIo extends Io {
	out(): string;
	err(): string;
}

/** `terminals`: which of the outputs are terminals. */
export function testIo(
	env: Readonly<Record<string, string>> = {},
	stdin = '',
	terminals: { readonly stdout?: boolean; readonly stderr?: boolean } = {},
): TestIo {
	const out: Buffer[] = [];
	const err: Buffer[] = [];
	const sink = (chunks: Buffer[], isTTY = false) =>
		Object.assign(
			new Writable({
				write(chunk: Buffer, _encoding, done) {
					chunks.push(Buffer.from(chunk));
					done();
				},
			}),
			{ isTTY },
		);
	return {
		stdout: sink(out, terminals.stdout),
		stderr: sink(err, terminals.stderr),
		stdin: Readable.from([stdin]),
		env,
		cwd: '/',
		clock: systemClock,
		rng: systemRng,
		interrupt: new AbortController().signal,
		force: new AbortController().signal,
		out: () => Buffer.concat(out).toString('utf8'),
		err: () => Buffer.concat(err).toString('utf8'),
	};
}
