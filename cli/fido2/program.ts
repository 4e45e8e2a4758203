import { spawn } from 'node:child_process';
import { GpuaasError } from '../../kit/error.ts';
import type { Io } from '../io.ts';

/**
 * The programs of libfido2, which talk to security keys: what is to be signed goes in by standard input, never as an
 * argument, and the PIN is asked for by the program itself, on the terminal, so it never passes through here.
 */
export type Fido2Program = 'fido2-token' | 'fido2-cred' | 'fido2-assert';

/** What a program may write; an assertion is below 2 KB, a credential with its certificate below 8. */
const OUTPUT_BYTES_MAX = 65_536;
/** For a person to find the key, type the PIN and touch it; keys themselves give up after 30 s. */
const ANSWER_WAIT_MAX_MS = 120_000;
const REASON_CHARS_MAX = 300;

/** Its standard output. Throws SECURITY_KEY_UNAVAILABLE when it isn't installed, fails, or nobody answers it. */
export async function runFido2(io: Io, program: Fido2Program, args: readonly string[], input: string): Promise<string> {
	const child = spawn(program, [...args], { stdio: 'pipe', env: environmentOf(io) });
	const [out, err] = [collected(child.stdout), collected(child.stderr)];
	// It may end before it has read all: then its exit says why.
	child.stdin.on('error', () => {});
	child.stdin.end(input);
	let isLate = false;
	const stop = () => void child.kill('SIGTERM');
	const timer = io.clock.setTimer(() => {
		isLate = true;
		stop();
	}, ANSWER_WAIT_MAX_MS);
	io.interrupt.addEventListener('abort', stop, { once: true });
	try {
		const code = await ended(child, program);
		if (isLate) throw securityKeyUnavailable(`nobody answered ${program} within ${ANSWER_WAIT_MAX_MS / 1000} s`);
		if (code !== 0) throw securityKeyUnavailable(whyOf(program, err()));
		return out();
	} finally {
		timer.cancel();
		io.interrupt.removeEventListener('abort', stop);
	}
}

/** What it needs to find itself, its terminal and its words; nothing else of ours. */
function environmentOf({ env }: Io): Record<string, string> {
	const kept = ['PATH', 'HOME', 'TERM', 'LANG', 'LC_ALL'].map((name) => [name, env[name] ?? ''] as const);
	return Object.fromEntries(kept.filter(([, value]) => value !== ''));
}

function collected(stream: NodeJS.ReadableStream): () => string {
	const chunks: Buffer[] = [];
	let bytes = 0;
	stream.on('data', (chunk: Buffer) => {
		bytes += chunk.length;
		if (bytes <= OUTPUT_BYTES_MAX) chunks.push(chunk);
	});
	return () => Buffer.concat(chunks).toString('utf8');
}

function ended(child: ReturnType<typeof spawn>, program: Fido2Program): Promise<number | null> {
	return new Promise((resolve, reject) => {
		child.once('error', (error: NodeJS.ErrnoException) => {
			const why = error.code === 'ENOENT' ? `the program ${program} is not installed` : error.message;
			reject(securityKeyUnavailable(`${why} (Debian and Ubuntu: apt install fido2-tools)`, error));
		});
		child.once('close', resolve);
	});
}

/** What the program or the key said, in a line, with what to do about the usual ones. */
function whyOf(program: Fido2Program, stderr: string): string {
	const said = stderr.trim().split('\n').at(-1)?.slice(0, REASON_CHARS_MAX) || `${program} failed and did not say why`;
	const hint = HINTS.find(([code]) => said.includes(code))?.[1];
	return hint === undefined ? said : `${said}: ${hint}`;
}

const HINTS: readonly (readonly [string, string])[] = [
	['FIDO_ERR_NO_CREDENTIALS', 'this key does not hold the credential; plug in the one that made it'],
	['FIDO_ERR_PIN_NOT_SET', 'give the key a PIN first: fido2-token -S DEVICE'],
	['FIDO_ERR_PIN_INVALID', 'the PIN is wrong; after eight wrong ones the key locks itself'],
	['FIDO_ERR_PIN_AUTH_BLOCKED', 'too many wrong PINs; unplug the key and try again'],
	['FIDO_ERR_PIN_BLOCKED', 'the key has locked itself and must be reset, which ends its credentials'],
	['FIDO_ERR_UV_INVALID', 'the finger was not known'],
	['FIDO_ERR_ACTION_TIMEOUT', 'nobody touched the key'],
	['FIDO_ERR_UNSUPPORTED_ALGORITHM', 'the key cannot do this algorithm; make it with --algorithm es256'],
	['invalid PIN length', 'a PIN has 4 to 63 characters and is read from the terminal'],
	['fido_dev_open', 'the device could not be opened; is it a security key, and may you read it?'],
];

export function securityKeyUnavailable(why: string, cause?: unknown): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'SECURITY_KEY_UNAVAILABLE',
		message: `the security key gave no signature: ${why}; nothing was sent`,
		cause,
	});
}
