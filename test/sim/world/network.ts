import { type DescMessage, fromBinary, type MessageShape, toBinary } from '@bufbuild/protobuf';
import type {
	ClientListener,
	ClientStream,
	LinkConnection,
	LinkTarget,
	LinkTransport,
} from '../../../agent/control/link-transport.ts';
import type { ServerStream, StreamListener } from '../../../control-plane/gateway/stream.ts';
import { GpuaasError } from '../../../kit/error.ts';
import {
	type ChannelRequest,
	ChannelRequestSchema,
	type ChannelResponse,
	ChannelResponseSchema,
} from '../../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import {
	type ConnectRequest,
	ConnectRequestSchema,
	type ConnectResponse,
	ConnectResponseSchema,
	type RenewCertificateRequest,
	RenewCertificateRequestSchema,
	type RenewCertificateResponse,
	RenewCertificateResponseSchema,
	type UploadOutputRequest,
	UploadOutputRequestSchema,
	type UploadOutputResponse,
	UploadOutputResponseSchema,
} from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { SeededRng } from './random.ts';
import type { Scheduler, SimProcess } from './scheduler.ts';
import { type ServerSide, Wire, type WirePath, WireStream } from './wire.ts';

/**
 * The network between the agents and the gateway: implements the agent's `LinkTransport` and hands `ServerStream`s to
 * whatever control plane runs now. Frames cross as bytes, so that no object is shared. Faults act on the wires of one
 * node or on the way to it; nothing is reordered within a connection, as TCP promises.
 */
export interface GatewayEndpoint {
	readonly process: SimProcess;
	connect(stream: ServerStream<ConnectResponse>): StreamListener<ConnectRequest>;
	uploadOutput(stream: ServerStream<UploadOutputResponse>): StreamListener<UploadOutputRequest>;
	channel(stream: ServerStream<ChannelResponse>): StreamListener<ChannelRequest>;
	renewCertificate(leafDer: Uint8Array, request: RenewCertificateRequest): Promise<RenewCertificateResponse>;
}

/** What frames were sent and arrived, for checkers: they see what both sides saw, and share no code with either. */
export interface NetworkObserver {
	onUpSent(node: string, connection: number, frame: ConnectRequest): void;
	onDownSent(node: string, connection: number, frame: ConnectResponse): void;
	onDownArrived(node: string, connection: number, frame: ConnectResponse): void;
}

export type Reach = 'open' | 'refused' | 'silent';

/** How the way to one node behaves now. */
export interface NodePath {
	reach: Reach;
	latencyMs: number;
	jitterMs: number;
	windowBytes: number;
	keepaliveMs: number;
}

export class Network {
	readonly #scheduler: Scheduler;
	readonly #rng: SeededRng;
	readonly #wires = new Map<string, Set<Wire>>();
	readonly #paths = new Map<string, NodePath>();
	readonly #observers: NetworkObserver[] = [];
	#gateway: GatewayEndpoint | undefined;
	#connections = 0;

	constructor(scheduler: Scheduler, rng: SeededRng) {
		this.#scheduler = scheduler;
		this.#rng = rng;
	}

	observe(observer: NetworkObserver): void {
		this.#observers.push(observer);
	}

	/** Undefined: nobody listens. Connections of a former gateway ended with its process. */
	listen(gateway: GatewayEndpoint | undefined): void {
		this.#gateway = gateway;
	}

	path(node: string): NodePath {
		let path = this.#paths.get(node);
		if (path === undefined) {
			path = { reach: 'open', latencyMs: 1, jitterMs: 1, windowBytes: 1024 * 1024, keepaliveMs: 15_000 };
			this.#paths.set(node, path);
		}
		return path;
	}

	/** Breaks every connection of a node that exists now. */
	breakWires(node: string, how: 'reset' | 'up' | 'down' | 'both'): void {
		for (const wire of this.#wires.get(node) ?? []) {
			if (how === 'reset') wire.reset('connection reset by peer');
			else wire.lose(how);
		}
		this.#wires.delete(node);
	}

	breakAllWires(how: 'reset' | 'both'): void {
		for (const node of [...this.#wires.keys()]) this.breakWires(node, how);
	}

	transport(node: string, process: SimProcess): LinkTransport {
		return { open: (target) => this.#open(node, process, target) };
	}

	#open(node: string, process: SimProcess, target: LinkTarget): LinkConnection {
		this.#connections += 1;
		const connection = this.#connections;
		const opened: WireStream[] = [];
		let closed = false;
		const dial = <Up extends DescMessage, Down extends DescMessage>(
			method: 'connect' | 'uploadOutput' | 'channel',
			schemas: { readonly up: Up; readonly down: Down },
			listener: ClientListener<MessageShape<Down>>,
			accept: (gateway: GatewayEndpoint, stream: ServerStream<MessageShape<Down>>) => StreamListener<MessageShape<Up>>,
		): ClientStream<MessageShape<Up>> => {
			const wire = this.#wire(node, `${node}#${connection} ${method}`);
			const client = {
				process,
				onFrame: (bytes: Uint8Array) => {
					this.#trace(wire, 'down', bytes);
					const frame = fromBinary(schemas.down, bytes);
					if (method === 'connect')
						for (const observer of this.#observers)
							observer.onDownArrived(node, connection, frame as unknown as ConnectResponse);
					listener.onFrame(frame);
				},
				onWritable: () => listener.onWritable(),
				onClosed: (end: Parameters<typeof listener.onClosed>[0]) => {
					this.#scheduler.note(`${wire.name} client closed ${end.code} ${end.reason}`);
					listener.onClosed(end);
				},
			};
			const stream = new WireStream(wire, client, (call) => {
				const gateway = this.#gateway;
				if (gateway?.process.alive !== true || this.path(node).reach !== 'open') return undefined;
				return this.#accepted(node, connection, wire, call, gateway, { target, schemas, method, accept });
			});
			opened.push(stream);
			if (closed) stream.cancel();
			return {
				send: (frame) => {
					if (!process.alive) return false;
					if (method === 'connect')
						for (const observer of this.#observers)
							observer.onUpSent(node, connection, frame as unknown as ConnectRequest);
					return stream.sendUp(toBinary(schemas.up, frame));
				},
				end: () => {
					if (process.alive) stream.endUp();
				},
				cancel: () => {
					if (process.alive) stream.cancel();
				},
			};
		};
		return {
			connect: (listener) =>
				dial('connect', { up: ConnectRequestSchema, down: ConnectResponseSchema }, listener, (gateway, stream) =>
					gateway.connect(stream),
				),
			uploadOutput: (listener) =>
				dial(
					'uploadOutput',
					{ up: UploadOutputRequestSchema, down: UploadOutputResponseSchema },
					listener,
					(gateway, stream) => gateway.uploadOutput(stream),
				),
			channel: (listener) =>
				dial('channel', { up: ChannelRequestSchema, down: ChannelResponseSchema }, listener, (gateway, stream) =>
					gateway.channel(stream),
				),
			renewCertificate: (request, signal) => this.#renew(node, process, target, request, signal),
			close: () => {
				closed = true;
				for (const stream of opened) stream.cancel();
			},
		};
	}

	#accepted<Up extends DescMessage, Down extends DescMessage>(
		node: string,
		connection: number,
		wire: Wire,
		call: WireStream,
		gateway: GatewayEndpoint,
		how: {
			readonly target: LinkTarget;
			readonly schemas: { readonly up: Up; readonly down: Down };
			readonly method: 'connect' | 'uploadOutput' | 'channel';
			readonly accept: (
				gateway: GatewayEndpoint,
				stream: ServerStream<MessageShape<Down>>,
			) => StreamListener<MessageShape<Up>>;
		},
	): ServerSide {
		const { target, schemas, method, accept } = how;
		const alive = () => gateway.process.alive;
		const listener = accept(gateway, {
			peer: `${node}:${connection}`,
			leafDer: target.credential.leafDer.slice(),
			send: (frame) => {
				if (!alive()) return false;
				if (method === 'connect')
					for (const observer of this.#observers)
						observer.onDownSent(node, connection, frame as unknown as ConnectResponse);
				return call.sendDown(toBinary(schemas.down, frame));
			},
			end: (status) => {
				if (alive()) call.endDown(status);
			},
			destroy: () => {
				if (alive()) wire.reset('the gateway cut the connection');
			},
			pause: () => call.pauseUp(),
			resume: () => call.resumeUp(),
		});
		return {
			process: gateway.process,
			onFrame: (bytes) => {
				this.#trace(wire, 'up', bytes);
				listener.onFrame(fromBinary(schemas.up, bytes));
			},
			onWritable: () => listener.onWritable(),
			onEnd: () => listener.onEnd(),
			onClosed: () => {
				this.#scheduler.note(`${wire.name} server closed`);
				listener.onClosed();
			},
		};
	}

	/** A unary call: request and answer may each be lost, and then nobody knows whether it happened. */
	async #renew(
		node: string,
		process: SimProcess,
		target: LinkTarget,
		request: RenewCertificateRequest,
		signal: AbortSignal,
	): Promise<RenewCertificateResponse> {
		const bytes = toBinary(RenewCertificateRequestSchema, request);
		const answer = await new Promise<Uint8Array | GpuaasError>((resolve) => {
			const path = this.path(node);
			const fail = () =>
				resolve(new GpuaasError({ code: 'UNAVAILABLE', reason: 'UNREACHABLE', message: 'no answer to the renewal' }));
			process.after(30_000, fail);
			signal.addEventListener('abort', fail, { once: true });
			this.#scheduler.after(this.#latencyMs(path) * 3, () => {
				const gateway = this.#gateway;
				if (gateway?.process.alive !== true || path.reach !== 'open') return fail();
				gateway
					.renewCertificate(target.credential.leafDer.slice(), fromBinary(RenewCertificateRequestSchema, bytes))
					.then(
						(response) => {
							const encoded = toBinary(RenewCertificateResponseSchema, response);
							this.#scheduler.after(this.#latencyMs(path), () => {
								if (path.reach === 'open' && process.alive) resolve(encoded);
							});
						},
						(error: unknown) => this.#scheduler.after(this.#latencyMs(path), () => resolve(GpuaasError.from(error))),
					);
			});
		});
		this.#scheduler.note(`${node} renewal answered ${answer instanceof GpuaasError ? answer.reason : 'ok'}`);
		if (answer instanceof GpuaasError) throw answer;
		return fromBinary(RenewCertificateResponseSchema, answer);
	}

	#wire(node: string, name: string): Wire {
		const path = this.path(node);
		const view: WirePath = {
			latencyMs: () => this.#latencyMs(path),
			windowBytes: path.windowBytes,
			keepaliveMs: path.keepaliveMs,
		};
		const wire = new Wire(this.#scheduler, this.#rng, view, name);
		if (path.reach === 'silent') wire.lose('both');
		let wires = this.#wires.get(node);
		if (wires === undefined) {
			wires = new Set();
			this.#wires.set(node, wires);
		}
		for (const known of wires) if (known.streams.size === 0) wires.delete(known);
		wires.add(wire);
		return wire;
	}

	#latencyMs(path: NodePath): number {
		return path.latencyMs + this.#rng.float() * path.jitterMs;
	}

	#trace(wire: Wire, direction: string, bytes: Uint8Array): void {
		this.#scheduler.trace.bytes(bytes);
		this.#scheduler.note(`${wire.name} ${direction} ${bytes.length}`);
	}
}
