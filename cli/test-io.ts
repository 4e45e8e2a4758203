import { Readable, Writable } from 'node:stream';
import { systemClock } from '../kit/clock.ts';
import { systemRng } from '../kit/ids.ts';
import type { Io } from './io.ts';

/** For tests: an `Io` that remembers what was written. */
export interface TestIo extends Io {
	out(): string;
	err(): string;
}

export function testIo(env: Readonly<Record<string, string>> = {}, stdin = ''): TestIo {
	const out: Buffer[] = [];
	const err: Buffer[] = [];
	const sink = (chunks: Buffer[]) =>
		new Writable({
			write(chunk: Buffer, _encoding, done) {
				chunks.push(Buffer.from(chunk));
				done();
			},
		});
	return {
		stdout: sink(out),
		stderr: sink(err),
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
