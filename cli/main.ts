import process from 'node:process';
import { keepAlive, systemClock } from '../kit/clock.ts';
import { systemRng } from '../kit/ids.ts';
import { EXIT } from './exit-codes.ts';
import { INTERRUPTING, Interruption, type Io, isReaderGone, READER_LEFT } from './io.ts';
import { openTerminal } from './terminal/terminal-output.ts';

/**
 * The `gpuaas` command: finds the verb, loads only it, and turns its outcome into an exit code. Every error ends here:
 * one line on standard error that says what to do, or one JSON document when `--json` was given.
 */
/** What runs elsewhere for these ends with whoever reads it. */
const OWNS_WORK: ReadonlySet<string> = new Set(['run', 'up', 'exec']);

function createIo(): Io {
	const interrupt = new AbortController();
	const force = new AbortController();
	// Without these the terminal would stay raw: no exit handler runs.
	for (const name of INTERRUPTING) {
		process.on(`SIG${name}`, () => (interrupt.signal.aborted ? force : interrupt).abort(new Interruption(name)));
	}
	// A reader that goes away (`| head`) ends the program as SIGPIPE would; what runs for it elsewhere is ended first.
	process.stdout.on('error', (error: NodeJS.ErrnoException) => {
		if (!isReaderGone(process.stdout, error)) throw error;
		if (!OWNS_WORK.has(process.argv[2] ?? '')) process.exit(EXIT.brokenPipe);
		interrupt.abort(READER_LEFT);
	});
	process.stderr.on('error', () => {});
	return {
		stdout: process.stdout,
		stderr: process.stderr,
		stdin: process.stdin,
		openTerminal,
		env: process.env,
		cwd: process.cwd(),
		clock: systemClock,
		rng: systemRng,
		interrupt: interrupt.signal,
		force: force.signal,
	};
}

async function main(argv: readonly string[]): Promise<number> {
	using _alive = keepAlive();
	const { dispatch } = await import('./dispatch.ts');
	return await dispatch(argv, createIo());
}

process.exitCode = await main(process.argv.slice(2));
// Sockets of a client that was interrupted may linger: the work is done, so end.
process.exit();
