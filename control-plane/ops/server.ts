import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { assert } from '../../kit/assert.ts';
import { GpuaasError } from '../../kit/error.ts';
import type { Registry } from '../../kit/exposition.ts';
import { CONTENT_TYPE, negotiateFormat } from '../../kit/exposition-text.ts';
import { isUuid } from '../../kit/ids.ts';
import type { AppDeps } from '../app/deps.ts';
import { readNodeIds } from '../app/system/fleet-facts.ts';
import { checkHealth } from '../app/system/health.ts';
import type { LatestTelemetry } from '../app/telemetry/latest.ts';
import { checkAccess, type OpsAccess, refusalOf } from './access.ts';
import { OpsMetrics } from './metrics.ts';
import { nodePage } from './node-page.ts';

/**
 * Pages for monitoring, on a listener of their own: /healthz (this process lives), /readyz (it may be given work),
 * /metrics, /metrics/nodes/<id>, /sd/prometheus (one target a node). Read-only. Nothing here names a customer. Data that
 * is too old is answered with 503, so that a graph has a gap and not a line. Called by main.ts.
 */
export interface OpsServerOptions {
	readonly deps: AppDeps;
	readonly registry: Registry;
	readonly telemetry: LatestTelemetry;
	/** Port 0: a free one. */
	readonly listen: { readonly host: string; readonly port: number };
	readonly access?: OpsAccess;
}

interface Answer {
	readonly status: number;
	readonly type: string;
	readonly body: string;
}

const TEXT = 'text/plain; charset=utf-8';
const JSON_TYPE = 'application/json';
const CONNECTIONS_MAX = 128;
const REQUEST_TIMEOUT_MS = 10_000;
/** Of service discovery: more than one replica serves. */
const TARGETS_MAX = 50_000;
const TARGETS_PAGE = 1000;

export class OpsServer implements AsyncDisposable {
	readonly #options: OpsServerOptions;
	readonly #access: OpsAccess;
	readonly #metrics: OpsMetrics;
	readonly #server: Server;

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
		this.#metrics = new OpsMetrics(options.deps, options.registry, options.telemetry);
		const handle = (request: IncomingMessage, response: ServerResponse) => void this.#serve(request, response);
		const limits = {
			requestTimeout: REQUEST_TIMEOUT_MS,
			headersTimeout: REQUEST_TIMEOUT_MS,
			connectionsCheckingInterval: 1000,
			maxHeaderSize: 8192,
		};
		const { tls } = this.#access;
		this.#server =
			tls === undefined
				? createServer(limits, handle)
				: createTlsServer(
						{
							...limits,
							cert: tls.chainPem,
							key: tls.keyPem,
							minVersion: 'TLSv1.2',
							...(tls.clientCaPem === undefined
								? {}
								: { ca: tls.clientCaPem, requestCert: true, rejectUnauthorized: true }),
						},
						handle,
					);
		this.#server.maxConnections = CONNECTIONS_MAX;
	}

	get address(): AddressInfo {
		const address = this.#server.address();
		assert(address !== null && typeof address === 'object', 'the ops listener is open');
		return address;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#metrics[Symbol.dispose]();
		const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
		this.#server.closeAllConnections();
		await closed;
	}

	async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
		let answer: Answer;
		try {
			answer = await this.#answer(request);
		} catch (error) {
			const { deps } = this.#options;
			deps.log.warn('an ops page failed', { page: request.url, error: GpuaasError.from(error) });
			answer = { status: 503, type: TEXT, body: 'this page can not be made now; look at the log\n' };
		}
		response.writeHead(answer.status, { 'content-type': answer.type, 'cache-control': 'no-store' });
		response.end(request.method === 'HEAD' ? undefined : answer.body);
	}

	async #answer(request: IncomingMessage): Promise<Answer> {
		const refused = refusalOf(request, this.#options.listen.host, this.#access);
		if (refused !== undefined) return { status: refused, type: TEXT, body: 'not for you\n' };
		if (request.method !== 'GET' && request.method !== 'HEAD')
			return { status: 405, type: TEXT, body: 'these pages can only be read\n' };
		const path = request.url?.split('?', 1)[0] ?? '';
		const nodeId = /^\/metrics\/nodes\/([^/]{1,64})$/.exec(path)?.[1];
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
		const { telemetry } = this.#options;
		const sample = isUuid(nodeId) ? telemetry.get(nodeId) : undefined;
		if (sample === undefined) return { status: 404, type: TEXT, body: 'no sample of this node came to this replica\n' };
		if (telemetry.isStale(sample)) {
			const age = Math.round(telemetry.ageMs(sample) / 1000);
			return { status: 503, type: TEXT, body: `the newest sample is ${age} s old, so nobody knows how the node is\n` };
		}
		const format = negotiateFormat(request.headers.accept);
		return { status: 200, type: CONTENT_TYPE[format], body: nodePage(nodeId, sample, telemetry, format) };
	}

	/** prometheus.io/docs/prometheus/latest/http_sd: every node that isn't retired, also silent ones, so that they alert. */
	async #targets(request: IncomingMessage): Promise<Answer> {
		const { deps } = this.#options;
		const target = targetOf(request, this.#options.listen.host, this.address.port);
		const groups: unknown[] = [];
		let afterId = '';
		while (groups.length < TARGETS_MAX) {
			const ids = await readNodeIds(deps, afterId, TARGETS_PAGE);
			for (const id of ids)
				groups.push({
					targets: [target],
					labels: { __metrics_path__: `/metrics/nodes/${id}`, instance: id, node: id },
				});
			if (ids.length < TARGETS_PAGE) break;
			afterId = ids.at(-1) ?? afterId;
		}
		return { status: 200, type: JSON_TYPE, body: JSON.stringify(groups) };
	}
}

/** The address by which Prometheus reached this page: the one that it can also scrape. */
function targetOf(request: IncomingMessage, host: string, port: number): string {
	const asked = request.headers.host ?? '';
	return /^[A-Za-z0-9.:[\]-]{1,255}$/.test(asked) ? asked : `${host}:${port}`;
}
