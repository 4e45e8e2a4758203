import { type ClientHttp2Session, connect } from 'node:http2';
import { connect as connectTcp, isIP } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import type { Clock } from '../../kit/clock.ts';
import { messageOf } from '../../kit/error.ts';
import { readAlways } from '../../kit/read-always.ts';
import { type SilenceLimits, whenSilent } from '../../kit/silence.ts';
import { gatewayDnsName } from '../../pki/trust/spiffe.ts';
import type { ChannelRequest, ChannelResponse } from '../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import { ChannelCall } from './channel-call.ts';
import { linkTls } from './link-tls.ts';
import type { ClientListener, ClientStream, LinkTarget } from './link-transport.ts';

/**
 * The connection that carries the channels of a node, straight on node:http2: bulk output costs grpc-js twice the copies
 * and several times the calls. What is on the wire is gRPC's (channel-call.ts), and the gateway can't tell the two apart.
 *
 * Dialled with the first stream, and again with the next one when it is gone. Streams that come while it can't be had
 * end at once with the time after which they may come again: every channel of a node asks for itself, and they must
 * not dial one by one.
 */
export interface ChannelConnectionLimits extends SilenceLimits {
	readonly streamWindowBytes: number;
	readonly connectionWindowBytes: number;
	/** TCP and TLS together, as long as grpc-js has for its own: a dial that nobody answers takes every channel with it. */
	readonly dialTimeoutMs: number;
	readonly messageBytesMax: number;
}

/** Between dials that fail, doubled with each. No jitter: the link, which the fleet's reconnects are spread by, is up. */
const REDIAL_BASE_MS = 1000;
const REDIAL_MAX_MS = 20_000;
/** Of what waits to be sent, in MB, past which node:http2 takes no new streams: the windows of all channels together. */
const SESSION_MEMORY_MB = 512;

export class ChannelConnection {
	readonly #clock: Clock;
	readonly #limits: ChannelConnectionLimits;
	readonly #target: LinkTarget;
	readonly #calls = new Set<ChannelCall>();
	/** Also such as take no new streams and still carry old ones. */
	readonly #sessions = new Set<ClientHttp2Session>();
	#session: ClientHttp2Session | undefined;
	/** Dials in a row that failed, or whose connection was over at once. */
	#failures = 0;
	#notBeforeMs = 0;
	/** A connection on this line got stuck. */
	#readsAlways = false;

	constructor(clock: Clock, limits: ChannelConnectionLimits, target: LinkTarget) {
		this.#clock = clock;
		this.#limits = limits;
		this.#target = target;
	}

	open(listener: ClientListener<ChannelResponse>): ClientStream<ChannelRequest> {
		const waitMs = this.#isUp() ? 0 : this.#notBeforeMs - this.#clock.monotonic();
		if (waitMs > 0) return this.#overAtOnce(listener, 'the gateway could not be reached a moment ago', waitMs);
		try {
			const session = this.#live();
			const call: ChannelCall = new ChannelCall(session, this.#limits.messageBytesMax, listener, () =>
				this.#calls.delete(call),
			);
			this.#calls.add(call);
			return call;
		} catch (error) {
			this.#failed();
			return this.#overAtOnce(listener, messageOf(error), REDIAL_BASE_MS);
		}
	}

	/** Ends every stream of it. */
	close(): void {
		for (const call of [...this.#calls]) call.cancel();
		for (const session of [...this.#sessions]) session.destroy();
	}

	#isUp(): boolean {
		return this.#session !== undefined && !this.#session.closed && !this.#session.destroyed;
	}

	#live(): ClientHttp2Session {
		if (this.#session === undefined || !this.#isUp()) this.#session = this.#dial();
		return this.#session;
	}

	#dial(): ClientHttp2Session {
		const { gateway, trustDomain } = this.#target;
		const name = gatewayDnsName(trustDomain);
		// Racks without DNS dial addresses; whatever is dialled, this is the name that is checked.
		const tls = { ...linkTls(this.#clock, this.#target), servername: name, ALPNProtocols: ['h2'] };
		const { host, port } = splitAddress(gateway);
		const session = connect(`https://${name}`, {
			createConnection: () =>
				this.#readsAlways
					? connectTls({ socket: readAlways(connectTcp({ host, port, noDelay: true })), ...tls })
					: connectTls({ host, port, ...tls }),
			settings: { initialWindowSize: this.#limits.streamWindowBytes, enablePush: false },
			maxSessionMemory: SESSION_MEMORY_MB,
		});
		const startedMs = this.#clock.monotonic();
		let isConnected = false;
		this.#sessions.add(session);
		const { dialTimeoutMs } = this.#limits;
		let isOver = false;
		// Its streams end before it is closed, and may not dial again at once.
		const over = () => {
			if (isOver) return;
			isOver = true;
			dialled.cancel();
			if (isConnected && this.#clock.monotonic() - startedMs >= REDIAL_BASE_MS) this.#failures = 0;
			else this.#failed();
		};
		const dialled = this.#clock.setTimer(() => {
			over();
			session.destroy(new Error(`the gateway did not answer within ${dialTimeoutMs / 1000} s`));
		}, dialTimeoutMs);
		session.once('connect', (_session, socket) => {
			dialled.cancel();
			if ((socket as TLSSocket).alpnProtocol !== 'h2') {
				session.destroy(new Error('what answers there does not speak HTTP/2'));
				return;
			}
			isConnected = true;
			session.setLocalWindowSize(this.#limits.connectionWindowBytes);
			const silence = whenSilent(this.#clock, session, this.#limits, () => {
				learn();
				session.destroy();
			});
			// The next dial may come before this one is closed.
			const learn = () => {
				this.#readsAlways ||= silence.isStuck;
			};
			session.once('close', () => {
				silence.cancel();
				learn();
			});
		});
		// Each of its streams tells of it too; without a listener it would end the process.
		session.on('error', () => {});
		session.once('close', () => {
			this.#sessions.delete(session);
			over();
		});
		return session;
	}

	#failed(): void {
		const delayMs = Math.min(REDIAL_MAX_MS, REDIAL_BASE_MS * 2 ** this.#failures);
		this.#failures = Math.min(this.#failures + 1, 10);
		this.#notBeforeMs = this.#clock.monotonic() + delayMs;
	}

	#overAtOnce(listener: ClientListener<ChannelResponse>, message: string, retryAfterMs: number) {
		this.#clock.defer(() => listener.onClosed({ code: 'UNAVAILABLE', reason: '', message, retryAfterMs }));
		return { send: () => false, end: () => {}, cancel: () => {} };
	}
}

/** `host:port`, `[v6]:port`. */
function splitAddress(address: string): { readonly host: string; readonly port: number } {
	const colon = address.lastIndexOf(':');
	const host = address.slice(0, colon).replace(/^\[(.*)\]$/, '$1');
	const port = Number(address.slice(colon + 1));
	const isPort = Number.isInteger(port) && port > 0 && port < 65_536;
	if (colon > 0 && isPort && (isIP(host) !== 6 || address.startsWith('['))) return { host, port };
	throw new Error(`${address} is no address of a gateway; it is host:port, and an IPv6 address stands in brackets`);
}
