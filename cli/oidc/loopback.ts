import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { assert } from '../../kit/assert.ts';
import { loginFailed } from './provider.ts';

/**
 * The listener that the browser comes back to (RFC 8252 section 7.3): on 127.0.0.1 only, on a port that the system
 * chooses, for one answer. What the answer is worth is judged by its state, issuer and code, not here.
 */
const PATH = '/callback';
const URL_CHARACTERS_MAX = 8192;

export interface Loopback extends AsyncDisposable {
	readonly redirectUri: string;
	/** The address that the browser came with. */
	answer(signal: AbortSignal): Promise<URL>;
}

export async function openLoopback(): Promise<Loopback> {
	let arrived: (url: URL) => void = () => {};
	const answered = new Promise<URL>((resolve) => {
		arrived = resolve;
	});
	let origin = '';
	let isOver = false;
	const server = createServer((request, response) => {
		const url = isOver ? undefined : callbackOf(request, origin);
		if (url === undefined) return reply(response, 404, 'There is nothing here.');
		isOver = true;
		const isRefused = url.searchParams.has('error');
		reply(response, isRefused ? 400 : 200, isRefused ? REFUSED : DONE);
		arrived(url);
	});
	await new Promise<void>((resolve, reject) => {
		server.once('error', reject);
		server.listen(0, '127.0.0.1', resolve);
	});
	const address = server.address();
	assert(address !== null && typeof address === 'object', 'the listener is open');
	origin = `http://127.0.0.1:${address.port}`;
	return {
		redirectUri: `${origin}${PATH}`,
		answer: (signal) => {
			const gone = new Promise<never>((_, reject) => {
				const stop = () => reject(loginFailed('no answer came from the browser in time'));
				if (signal.aborted) stop();
				else signal.addEventListener('abort', stop, { once: true });
			});
			return Promise.race([answered, gone]);
		},
		async [Symbol.asyncDispose]() {
			const closed = new Promise((resolve) => server.close(resolve));
			server.closeAllConnections();
			await closed;
		},
	};
}

/** The host is checked too, so that no name that resolves to this machine can stand in (DNS rebinding). */
function callbackOf(request: IncomingMessage, origin: string): URL | undefined {
	const target = request.url ?? '';
	if (request.method !== 'GET' || target.length > URL_CHARACTERS_MAX || !URL.canParse(target, origin)) return undefined;
	const url = new URL(target, origin);
	return url.pathname === PATH && url.origin === origin && `http://${request.headers.host}` === origin
		? url
		: undefined;
}

const DONE = 'Logged in. You can close this window and go back to the terminal.';
const REFUSED = 'Not logged in. The terminal says why; you can close this window.';

function reply(response: ServerResponse, status: number, text: string): void {
	response.writeHead(status, {
		'content-type': 'text/plain; charset=utf-8',
		'cache-control': 'no-store',
		'referrer-policy': 'no-referrer',
		'x-content-type-options': 'nosniff',
		connection: 'close',
	});
	response.end(`${text}\n`);
}
