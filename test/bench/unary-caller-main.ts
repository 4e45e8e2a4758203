import { createClient, type Interceptor } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { ApiSessions } from '../../cli/sessions.ts';
import { keepAlive, sleep, systemClock } from '../../kit/clock.ts';
import { NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { serveParent } from './child.ts';
import { percentile } from './measure.ts';

/** Calls GetNode again and again for as long as it is asked to, and says what the calls took. */
export interface UnaryCallerSettings {
	readonly url: string;
	readonly rootPem: string;
	readonly key: string;
	readonly node: string;
}

export interface UnaryCallerQuestion {
	readonly forMs: number;
	readonly pauseMs: number;
}

export interface UnaryCallerAnswer {
	readonly calls: number;
	readonly p50Ms: number;
	readonly p99Ms: number;
	readonly maxMs: number;
}

const { url, rootPem, key, node } = JSON.parse(process.argv[2] ?? '') as UnaryCallerSettings;
using _alive = keepAlive();
const authorize: Interceptor = (next) => (request) => {
	request.header.set('authorization', `Bearer ${key}`);
	return next(request);
};
const sessionManager = new ApiSessions(url, {}, { ca: rootPem });
const client = createClient(
	NodeService,
	createConnectTransport({ baseUrl: url, httpVersion: '2', sessionManager, interceptors: [authorize] }),
);
await serveParent<UnaryCallerQuestion>(null, async ({ forMs, pauseMs }): Promise<UnaryCallerAnswer> => {
	const latencies: number[] = [];
	const endMs = systemClock.monotonic() + forMs;
	while (systemClock.monotonic() < endMs) {
		const startedMs = systemClock.monotonic();
		await client.getNode({ node });
		latencies.push(systemClock.monotonic() - startedMs);
		await sleep(systemClock, pauseMs);
	}
	return {
		calls: latencies.length,
		p50Ms: percentile(latencies, 50),
		p99Ms: percentile(latencies, 99),
		maxMs: Math.max(...latencies),
	};
});
process.exit();
