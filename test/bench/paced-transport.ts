import type {
	ClientListener,
	ClientStream,
	LinkConnection,
	LinkTarget,
	LinkTransport,
} from '../../agent/control/link-transport.ts';
import type { Clock } from '../../kit/clock.ts';
import type { ConnectRequest, ConnectResponse } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';

/**
 * Links of a *simulated* fleet, of which so many are dialled at once and the others wait: agents that share one core
 * here have a host each elsewhere. Without it all of them begin their handshakes together, and none is finished within
 * the gateway's timeout. An agent's own patience (`welcomeTimeoutMs`) counts while it waits, so that what is measured
 * is never better than without. The newest dials first: in order of arrival, once the line is as long as that patience,
 * everybody would begin just before they give up, and nobody would ever be welcomed.
 */
export class PacedTransport implements LinkTransport {
	readonly #inner: LinkTransport;
	readonly #clock: Clock;
	readonly #atOnce: number;
	readonly #waiting = new Set<() => void>();
	#dialling = 0;

	constructor(inner: LinkTransport, clock: Clock, atOnce: number) {
		this.#inner = inner;
		this.#clock = clock;
		this.#atOnce = atOnce;
	}

	open(target: LinkTarget): LinkConnection {
		const inner = this.#inner.open(target);
		let abandon = () => {};
		return {
			connect: (listener) => {
				const stream = new PacedStream(listener, () => inner.connect(stream.listener(this.#place())));
				const begin = () => stream.begin();
				abandon = () => {
					if (this.#waiting.delete(begin)) this.#clock.defer(() => listener.onClosed(ABANDONED));
				};
				this.#waiting.add(begin);
				this.#clock.defer(() => this.#drain());
				return stream;
			},
			uploadOutput: (listener) => inner.uploadOutput(listener),
			channel: (listener) => inner.channel(listener),
			renewCertificate: (request, signal) => inner.renewCertificate(request, signal),
			close: () => {
				abandon();
				inner.close();
			},
		};
	}

	/** A place among those that dial; given back once. */
	#place(): () => void {
		this.#dialling += 1;
		let isHeld = true;
		return () => {
			if (!isHeld) return;
			isHeld = false;
			this.#dialling -= 1;
			this.#drain();
		};
	}

	#drain(): void {
		if (this.#dialling >= this.#atOnce) return;
		for (const begin of [...this.#waiting].reverse()) {
			if (this.#dialling >= this.#atOnce) return;
			this.#waiting.delete(begin);
			begin();
		}
	}
}

const ABANDONED = { code: 'CANCELLED', reason: '', message: 'it gave up before its turn', retryAfterMs: 0 };

class PacedStream implements ClientStream<ConnectRequest> {
	readonly #listener: ClientListener<ConnectResponse>;
	readonly #dial: () => ClientStream<ConnectRequest>;
	readonly #sent: ConnectRequest[] = [];
	#stream: ClientStream<ConnectRequest> | undefined;

	constructor(listener: ClientListener<ConnectResponse>, dial: () => ClientStream<ConnectRequest>) {
		this.#listener = listener;
		this.#dial = dial;
	}

	begin(): void {
		this.#stream = this.#dial();
		for (const frame of this.#sent.splice(0)) this.#stream.send(frame);
	}

	/** The first word of the gateway, or the end, gives the place back. */
	listener(giveBack: () => void): ClientListener<ConnectResponse> {
		return {
			onFrame: (frame) => {
				giveBack();
				this.#listener.onFrame(frame);
			},
			onWritable: () => this.#listener.onWritable(),
			onClosed: (end) => {
				giveBack();
				this.#listener.onClosed(end);
			},
		};
	}

	send(frame: ConnectRequest): boolean {
		if (this.#stream !== undefined) return this.#stream.send(frame);
		this.#sent.push(frame);
		return true;
	}

	end(): void {
		this.#stream?.end();
	}

	cancel(): void {
		this.#stream?.cancel();
	}
}
