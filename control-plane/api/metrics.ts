import type { Counter, Family, Gauge, Histogram, Registry } from '../../kit/exposition.ts';

/** Above all methods of the contract times all codes: whoever makes many kinds of mistakes must not hide an OK. */
const REQUEST_SERIES_MAX = 4000;

/** What the API listener tells monitoring. Methods and codes are closed sets, so the series are bounded. */
export class ApiMetrics {
	readonly #latency: Family<Histogram>;
	readonly #requests: Family<Counter>;
	readonly #refusedEarly: Family<Counter>;
	readonly connections: Gauge;

	constructor(registry: Registry) {
		this.#latency = registry.histogram({
			name: 'gpuaas_api_request_seconds',
			help: 'Time from the headers of a request to its answer; of streams, to their end.',
			labelNames: ['method'],
			buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
		});
		this.#requests = registry.counter({
			name: 'gpuaas_api_requests_total',
			help: 'Requests by method and result code.',
			labelNames: ['method', 'code'],
			seriesMax: REQUEST_SERIES_MAX,
		});
		this.#refusedEarly = registry.counter({
			name: 'gpuaas_api_connections_refused_total',
			help: 'Connections that were cut, by why.',
			labelNames: ['why'],
		});
		this.connections = registry
			.gauge({ name: 'gpuaas_api_connections', help: 'Open connections of the API listener.' })
			.of();
	}

	/** `code`: `OK` or the error's. */
	finished(method: string, code: string, seconds: number): void {
		this.#latency.of(method).observe(seconds);
		this.#requests.of(method, code).inc();
	}

	cut(why: 'connections' | 'address' | 'resets' | 'silent' | 'slow-request'): void {
		this.#refusedEarly.of(why).inc();
	}
}
