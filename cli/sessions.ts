import type {
	ClientHttp2Session,
	ClientHttp2Stream,
	ClientSessionOptions,
	SecureClientSessionOptions,
} from 'node:http2';
import { connect, isIP } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { Code, ConnectError } from '@connectrpc/connect';
import { Http2SessionManager } from '@connectrpc/connect-node';
import { type Clock, systemClock } from '../kit/clock.ts';
import { readAlways } from '../kit/read-always.ts';
import { type SilenceLimits, whenSilent } from '../kit/silence.ts';

export interface ApiSessionLimits extends SilenceLimits {
	/** Name, TCP and TLS together. */
	readonly dialTimeoutMs: number;
}

/** As agents and their gateways have it. */
export const API_SESSION_LIMITS_DEFAULT: ApiSessionLimits = Object.freeze({
	dialTimeoutMs: 10_000,
	keepaliveMs: 10_000,
	keepaliveTimeoutMs: 5000,
});

/**
 * The connection to a control plane. It ends when the other end is heard no more, and no dial waits for longer than a
 * person would.
 *
 * Its answers can be read at any time. In Node 24 an answer that has come to its end before its reader begins, as on a
 * busy machine, fails with "Premature close" instead of being read: the reader that Node makes asks whether the stream
 * is closed, which for HTTP/2 says that nothing more will come, not that nothing is left. test/integration/
 * late-reader.test.ts holds this against the pinned Node.
 */
export class ApiSessions extends Http2SessionManager {
	readonly #limits: ApiSessionLimits;
	readonly #clock: Clock;
	readonly #way: Way;
	readonly #followed = new WeakSet<ClientHttp2Session>();

	constructor(
		url: string,
		limits: Partial<ApiSessionLimits> = {},
		options?: ClientSessionOptions | SecureClientSessionOptions,
		clock: Clock = systemClock,
	) {
		const way: Way = { readsAlways: false };
		super(url, {}, { ...options, ...dialOf(url, way, options) });
		this.#way = way;
		this.#limits = { ...API_SESSION_LIMITS_DEFAULT, ...limits };
		this.#clock = clock;
	}

	override async request(...args: Parameters<Http2SessionManager['request']>): Promise<ClientHttp2Stream> {
		const dialled = this.#clock.setTimer(() => this.#endDial(), this.#limits.dialTimeoutMs);
		const stream = await super.request(...args).finally(() => dialled.cancel());
		this.#follow(stream.session as ClientHttp2Session | undefined);
		return Object.assign(stream, { [Symbol.asyncIterator]: () => chunksOf(stream) });
	}

	/** The kernel would go on for two minutes, and ask ever more rarely: a line that is back is found by the next dial. */
	#endDial(): void {
		if (this.state() === 'connecting')
			this.abort(unavailable(`no answer within ${seconds(this.#limits.dialTimeoutMs)}`));
	}

	#follow(session: ClientHttp2Session | undefined): void {
		if (session === undefined || session.destroyed || this.#followed.has(session)) return;
		this.#followed.add(session);
		const { keepaliveMs, keepaliveTimeoutMs } = this.#limits;
		const silence = whenSilent(this.#clock, session, this.#limits, () => {
			learn();
			session.destroy(unavailable(`nothing was heard from it for ${seconds(keepaliveMs + keepaliveTimeoutMs)}`));
		});
		// The next dial may come before this one is closed.
		const learn = () => {
			this.#way.readsAlways ||= silence.isStuck;
		};
		// The manager stops listening once it dials anew, which may be before it hears why.
		session.on('error', () => {});
		session.once('close', () => {
			silence.cancel();
			learn();
		});
	}
}

/** How the next dial goes. */
interface Way {
	/** A connection on this line got stuck. */
	readsAlways: boolean;
}

/** As node:http2 dials by itself, but for what it can't do: see read-always.ts. */
function dialOf(
	url: string,
	way: Way,
	options: SecureClientSessionOptions = {},
): Pick<ClientSessionOptions, 'createConnection'> {
	const { protocol, hostname, port } = new URL(url);
	if (protocol !== 'https:') return {};
	const host = hostname.replace(/^\[(.*)\]$/, '$1');
	const name = isIP(host) === 0 ? { servername: host } : {};
	return {
		createConnection: () => {
			const where = { host, port: Number(port || 443) };
			const more = way.readsAlways ? { socket: readAlways(connect({ ...where, noDelay: true })) } : {};
			return connectTls({ ...options, ...name, ...where, ...more, ALPNProtocols: ['h2'] });
		},
	};
}

function unavailable(message: string): ConnectError {
	return new ConnectError(message, Code.Unavailable);
}

function seconds(ms: number): string {
	return `${ms / 1000} s`;
}

async function* chunksOf(stream: ClientHttp2Stream): AsyncGenerator<Buffer, undefined, undefined> {
	let wake = () => {};
	let failure: Error | undefined;
	const look = () => wake();
	const fail = (error: Error) => {
		failure = error;
		wake();
	};
	stream.on('readable', look).on('end', look).on('close', look).on('error', fail);
	try {
		for (;;) {
			const chunk: Buffer | null = stream.destroyed ? null : stream.read();
			if (chunk !== null) yield chunk;
			else if (failure !== undefined) throw failure;
			else if (stream.readableEnded) return undefined;
			else if (stream.destroyed) throw stream.errored ?? new Error('the answer broke off');
			else {
				await new Promise<void>((resolve) => {
					wake = resolve;
				});
			}
		}
	} finally {
		// Its error is nobody's any more, and must not be uncaught.
		stream.off('readable', look).off('end', look).off('close', look);
		if (!stream.readableEnded) stream.destroy();
	}
}
