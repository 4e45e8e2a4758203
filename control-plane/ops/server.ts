import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { Server as TlsServer } from 'node:tls';
import { assert } from '../../kit/assert.ts';
import { GpuaasError } from '../../kit/error.ts';
import type { Registry } from '../../kit/exposition.ts';
import { CONTENT_TYPE, negotiateFormat } from '../../kit/exposition-text.ts';
import { acceptsGzip, compressed, freePacker } from '../../kit/gzip.ts';
import type { Text } from '../../kit/gzip-engine.ts';
import { isUuid } from '../../kit/ids.ts';
import type { AppDeps } from '../app/deps.ts';
import type { HealthMonitor } from '../app/health/monitor.ts';
import { checkHealth } from '../app/system/health.ts';
import type { NameSet } from '../app/telemetry/families.ts';
import type { Telemetry } from '../app/telemetry/telemetry.ts';
import { checkAccess, type OpsAccess, type OpsTls, refusalOf } from './access.ts';
import { discover } from './discovery.ts';
import { registerHealth } from './health-metrics.ts';
import { OpsMetrics } from './metrics.ts';
import { type NodePageOptions, nodePage } from './node-page.ts';

/**
 * Pages for monitoring, on a listener of their own: /healthz (this process lives), /readyz (it may be given work),
 * /metrics, /metrics/nodes/<id>, /sd/prometheus (one target a node). Read-only. Nothing here names a customer. Data that
 * is too old is answered with 503, so that a graph has a gap and not a line. Called by main.ts.
 */
export interface OpsServerOptions {
	readonly deps: AppDeps;
	readonly registry: Registry;
	readonly telemetry: Telemetry;
	readonly health: HealthMonitor;
	/** What node pages show. Default: all names, `Hostname` as dcgm-exporter has it up to 4.8. */
	readonly nodePages?: Partial<Pick<NodePageOptions, 'names' | 'hostnameLabel'>>;
	/** Port 0: a free one. */
	readonly listen: { readonly host: string; readonly port: number };
	readonly access?: OpsAccess;
	/** Labels of nodes that discovery may show. */
	readonly nodeLabels?: readonly string[];
	readonly limits?: Partial<OpsLimits>;
}

export interface OpsLimits {
	/** A Prometheus asks from few connections. */
	readonly connectionsMax: number;
	readonly handshakeTimeoutMs: number;
	/** From the first byte of a request, or from the opening of its connection, to the end of its body. */
	readonly requestTimeoutMs: number;
	/** Without a byte in either direction: whoever doesn't read a page holds its bytes here. */
	readonly silentTimeoutMs: number;
	/** From an answer's first byte to its last, however the peer takes it. */
	readonly answerTimeoutMs: number;
	readonly headerBytesMax: number;
}

export const OPS_LIMITS_DEFAULT: OpsLimits = Object.freeze({
	connectionsMax: 128,
	handshakeTimeoutMs: 5000,
	requestTimeoutMs: 10_000,
	silentTimeoutMs: 30_000,
	answerTimeoutMs: 60_000,
	headerBytesMax: 8192,
});

interface Answer {
	readonly status: number;
	readonly type: string;
	readonly body: Text;
}

function contextOf({ chainPem, keyPem, clientCaPem }: OpsTls) {
	const ca = clientCaPem === undefined ? {} : { ca: clientCaPem };
	return { cert: chainPem, key: keyPem, minVersion: 'TLSv1.2' as const, ...ca };
}

const TEXT = 'text/plain; charset=utf-8';
const JSON_TYPE = 'application/json';

export class OpsServer implements AsyncDisposable {
	readonly #options: OpsServerOptions;
	readonly #access: OpsAccess;
	readonly #metrics: OpsMetrics;
	readonly #pages: NodePageOptions;
	readonly #server: Server;
	readonly #answerTimeoutMs: number;

	/** Throws CONFIG_INVALID where the pages would be open to a network. */
	static async listen(options: OpsServerOptions): Promise<OpsServer> {
		checkAccess(options.listen.host, options.access ?? {});
		const ops = new OpsServer(options);
		await new Promise<void>((resolve, reject) => {
			ops.#server.once('error', reject);
			ops.#server.listen(options.listen.port, options.listen.host, () => {
				ops.#server.removeListener('error', reject);
				resolve();
			});
		});
		return ops;
	}

	private constructor(options: OpsServerOptions) {
		this.#options = options;
		this.#access = options.access ?? {};
		this.#pages = {
			names: ALL_NAMES,
			hostnameLabel: 'Hostname',
			xids: options.telemetry.xids,
			health: options.health,
			...options.nodePages,
			// Whoever gets past a token or a client certificate is somebody; loopback is anybody on this host.
			namesCustomers: this.#access.bearerToken !== undefined || this.#access.tls?.clientCaPem !== undefined,
		};
		this.#metrics = new OpsMetrics(options.deps, options.registry, options.telemetry);
		registerHealth(options.registry, options.health);
		const handle = (request: IncomingMessage, response: ServerResponse) => void this.#serve(request, response);
		const bounds = { ...OPS_LIMITS_DEFAULT, ...options.limits };
		this.#answerTimeoutMs = bounds.answerTimeoutMs;
		const limits = {
			requestTimeout: bounds.requestTimeoutMs,
			headersTimeout: bounds.requestTimeoutMs,
			connectionsCheckingInterval: Math.min(1000, bounds.requestTimeoutMs / 2),
			maxHeaderSize: bounds.headerBytesMax,
		};
		const { tls } = this.#access;
		this.#server =
			tls === undefined
				? createServer(limits, handle)
				: createTlsServer(
						{
							...limits,
							handshakeTimeout: bounds.handshakeTimeoutMs,
							...contextOf(tls),
							...(tls.clientCaPem === undefined ? {} : { requestCert: true, rejectUnauthorized: true }),
						},
						handle,
					);
		this.#server.maxConnections = bounds.connectionsMax;
		this.#server.timeout = bounds.silentTimeoutMs;
	}

	get address(): AddressInfo {
		const address = this.#server.address();
		assert(address !== null && typeof address === 'object', 'the ops listener is open');
		return address;
	}

	/** New handshakes get the new certificate; nothing where pages are served without TLS. */
	updateTls(renewed: Pick<OpsTls, 'chainPem' | 'keyPem'>): void {
		const { tls } = this.#access;
		if (tls !== undefined && this.#server instanceof TlsServer)
			this.#server.setSecureContext(contextOf({ ...tls, ...renewed }));
	}

	/** Open ones. */
	connections(): Promise<number> {
		return new Promise((resolve, reject) =>
			this.#server.getConnections((error, count) => (error === null ? resolve(count) : reject(error))),
		);
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#metrics[Symbol.dispose]();
		const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
		this.#server.closeAllConnections();
		await closed;
	}

	async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
		const isWanted = request.method !== 'HEAD' && acceptsGzip(request.headers['accept-encoding']);
		// A fleet's pages come by the hundred a second: each is made when it can be packed.
		using packer = isWanted && NODE_PAGE.test(pathOf(request)) ? await freePacker() : undefined;
		if (response.destroyed) return;
		const answer = await this.#answered(request);
		const headers = { 'content-type': answer.type, 'cache-control': 'no-store', vary: 'accept-encoding' };
		// What can't be packed is sent as it is.
		const packed = isWanted
			? await (packer === undefined ? compressed(answer.body) : packer.compressed(answer.body))?.catch(() => undefined)
			: undefined;
		response.writeHead(answer.status, packed === undefined ? headers : { ...headers, 'content-encoding': 'gzip' });
		const late = this.#options.deps.clock.setTimer(() => request.socket.destroy(), this.#answerTimeoutMs);
		response.once('close', () => late.cancel());
		response.end(request.method === 'HEAD' ? undefined : (packed ?? whole(answer.body)));
	}

	/** Never rejects. */
	async #answered(request: IncomingMessage): Promise<Answer> {
		try {
			return await this.#answer(request);
		} catch (error) {
			const { deps } = this.#options;
			deps.log.warn('an ops page failed', { page: request.url, error: GpuaasError.from(error) });
			return { status: 503, type: TEXT, body: 'this page can not be made now; look at the log\n' };
		}
	}

	async #answer(request: IncomingMessage): Promise<Answer> {
		const refused = refusalOf(request, this.#options.listen.host, this.#access);
		if (refused !== undefined) return { status: refused, type: TEXT, body: 'not for you\n' };
		if (request.method !== 'GET' && request.method !== 'HEAD')
			return { status: 405, type: TEXT, body: 'these pages can only be read\n' };
		const path = pathOf(request);
		const nodeId = NODE_PAGE.exec(path)?.[1];
		if (nodeId !== undefined) return this.#node(nodeId, request);
		switch (path) {
			case '/healthz':
				return { status: 200, type: TEXT, body: 'ok\n' };
			case '/readyz':
				return await this.#ready();
			case '/metrics':
				return await this.#page(request);
			case '/sd/prometheus':
				return await this.#targets(request);
			default:
				return {
					status: 404,
					type: TEXT,
					body: 'pages: /healthz /readyz /metrics /metrics/nodes/<id> /sd/prometheus\n',
				};
		}
	}

	async #ready(): Promise<Answer> {
		const checks = await checkHealth(this.#options.deps);
		const ready = checks.every(({ ok }) => ok);
		return { status: ready ? 200 : 503, type: JSON_TYPE, body: `${JSON.stringify({ ready, checks })}\n` };
	}

	async #page(request: IncomingMessage): Promise<Answer> {
		await this.#metrics.refresh();
		const format = negotiateFormat(request.headers.accept);
		return { status: 200, type: CONTENT_TYPE[format], body: this.#options.registry.render(format) };
	}

	#node(nodeId: string, request: IncomingMessage): Answer {
		const { latest, directory, ingest } = this.#options.telemetry;
		const sample = isUuid(nodeId) ? latest.get(nodeId) : undefined;
		const refusal = ingest.refusalOf(nodeId);
		const why = refusal === undefined ? '' : `; its newest frame was refused: ${refusal.reason}`;
		if (sample === undefined)
			return { status: 404, type: TEXT, body: `no sample of this node came to this replica${why}\n` };
		const ageMs = latest.ageMs(sample);
		if (latest.isStale(sample)) {
			const age = Math.round(ageMs / 1000);
			return {
				status: 503,
				type: TEXT,
				body: `the newest sample is ${age} s old, so nobody knows how the node is${why}\n`,
			};
		}
		const names = namesOf(request, this.#pages.names);
		if (names === undefined) return { status: 400, type: TEXT, body: 'names is gpuaas or dcgm; without it: all\n' };
		const body = nodePage(directory.get(nodeId), sample, ageMs, { ...this.#pages, names });
		return { status: 200, type: CONTENT_TYPE.text, body };
	}

	async #targets(request: IncomingMessage): Promise<Answer> {
		const { deps, nodeLabels = [] } = this.#options;
		const target = targetOf(request, this.#options.listen.host, this.address.port);
		const found = await discover(deps, { target, nodeLabels, query: queryOf(request) });
		return 'json' in found
			? { status: 200, type: JSON_TYPE, body: found.json }
			: { status: 400, type: TEXT, body: found.wrong };
	}
}

const NODE_PAGE = /^\/metrics\/nodes\/([^/]{1,64})$/;

function pathOf({ url }: IncomingMessage): string {
	return url?.split('?', 1)[0] ?? '';
}

function whole(body: Text): string {
	return typeof body === 'string' ? body : body.join('');
}

/** The address by which Prometheus reached this page: the one that it can also scrape. */
function targetOf(request: IncomingMessage, host: string, port: number): string {
	const asked = request.headers.host ?? '';
	return /^[A-Za-z0-9.:[\]-]{1,255}$/.test(asked) ? asked : `${host}:${port}`;
}

const ALL_NAMES: ReadonlySet<NameSet> = new Set(['gpuaas', 'dcgm']);

/** `?names=dcgm`: for a Prometheus that wants one spelling only. */
function namesOf(request: IncomingMessage, configured: ReadonlySet<NameSet>): ReadonlySet<NameSet> | undefined {
	const asked = queryOf(request).get('names');
	if (asked === null) return configured;
	return asked === 'gpuaas' || asked === 'dcgm' ? new Set([asked]) : undefined;
}

function queryOf(request: IncomingMessage): URLSearchParams {
	return new URLSearchParams(request.url?.split('?', 2)[1] ?? '');
}
