import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { OTLP_HEADERS, OtlpEncoder } from '../../control-plane/adapters/export/otlp.ts';
import { createPost } from '../../control-plane/adapters/export/post.ts';
import { PushQueue } from '../../control-plane/adapters/export/push-queue.ts';
import { Pusher } from '../../control-plane/adapters/export/pusher.ts';
import { Sender } from '../../control-plane/adapters/export/sender.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { eventually } from '../eventually.ts';
import { lacks } from '../tools.ts';
import { pythonWith } from './python-packages.ts';
import { TelemetryFleet } from './telemetry-fleet.ts';

interface Point {
	readonly asDouble?: number;
	readonly flags?: number;
	readonly timeUnixNano: string;
	readonly attributes: { readonly key: string; readonly value: { readonly stringValue: string } }[];
}
interface Metric {
	readonly name: string;
	readonly unit: string;
	readonly gauge?: { readonly dataPoints: Point[] };
	readonly sum?: {
		readonly dataPoints: Point[];
		readonly isMonotonic: boolean;
		readonly aggregationTemporality: string;
	};
}
interface Resource {
	readonly resource: { readonly attributes: Point['attributes'] };
	readonly scopeMetrics: { readonly metrics: Metric[] }[];
}

/** What we push by OTLP/HTTP, of a *simulated* fleet, as OpenTelemetry's own decoder reads it. */
describe.skipIf(lacks('python3'))('OTLP', () => {
	let fleet: TelemetryFleet;
	let python: string;
	const folder = mkdtempSync(join(tmpdir(), 'gpuaas-otlp-'));
	const bodies: Buffer[] = [];
	const headers: IncomingHttpHeaders[] = [];
	let statuses: number[] = [];
	const receiver = createServer((request, response) => {
		const parts: Buffer[] = [];
		request.on('data', (part: Buffer) => parts.push(part));
		request.on('end', () => {
			const status = statuses.shift() ?? 200;
			response.writeHead(status, status === 429 ? { 'retry-after': '0' } : {}).end();
			if (status !== 200) return;
			bodies.push(Buffer.concat(parts));
			headers.push(request.headers);
		});
	});

	beforeAll(async () => {
		python = await pythonWith('python-otlp', ['opentelemetry-proto==1.45.2']);
		fleet = await TelemetryFleet.start(3);
		await new Promise<void>((resolve) => receiver.listen(0, '127.0.0.1', resolve));
	});
	afterAll(async () => {
		receiver.close();
		await fleet[Symbol.asyncDispose]();
		rmSync(folder, { recursive: true, force: true });
	});

	function decode(body: Buffer): readonly Resource[] {
		const script = join(import.meta.dirname, 'otlp_decode.py');
		const { status, stdout, stderr } = spawnSync(python, [script], { input: body, maxBuffer: 1e9 });
		expect(`${status} ${stderr}`).toBe('0 ');
		return (JSON.parse(stdout.toString('utf8')) as { resourceMetrics: Resource[] }).resourceMetrics;
	}

	test('is decoded strictly, with names, units and attributes of the conventions, and says what is gone', async () => {
		const { telemetry } = fleet.world.deps;
		await using queue = await PushQueue.open({ folder });
		const { port } = receiver.address() as AddressInfo;
		const url = new URL(`http://127.0.0.1:${port}/v1/metrics`);
		const post = createPost({ url, headers: OTLP_HEADERS, bearerToken: 'a-token-of-a-file' });
		// Overloaded, then away, then well: nothing may be lost or twice in another order.
		statuses = [429, 503];
		const sender = new Sender({ clock: systemClock, rng: systemRng, log: silentLogger, name: 'otlp', queue, post });
		const stop = new AbortController();
		const running = sender.run(stop.signal);
		const series = { names: new Set(['gpuaas', 'dcgm'] as const), hostnameLabel: 'Hostname' as const };
		const { directory, xids } = telemetry;
		const pusher = new Pusher({
			...{ clock: systemClock, log: silentLogger, directory, queue, series, xids, onQueued: sender.wake },
			encoder: new OtlpEncoder(),
		});
		const [first] = fleet.nodes;
		const sample = present(telemetry.latest.get(first?.id ?? ''), 'a sample');
		pusher.onSample(sample);
		await eventually('the first request came', () => bodies.length === 1);
		pusher.onSilence(sample.nodeId);
		await eventually('the end came', () => bodies.length === 2);
		await eventually('both are counted', () => sender.counts.sent === 2);
		stop.abort();
		await running;
		await pusher[Symbol.asyncDispose]();
		expect(sender.counts).toEqual({ sent: 2, refused: 0, retried: 2 });
		expect(headers[0]).toMatchObject({
			'content-type': 'application/x-protobuf',
			'content-encoding': 'gzip',
			authorization: 'Bearer a-token-of-a-file',
		});
		const [resource] = decode(present(bodies[0], 'a body'));
		const attributes = (point: Pick<Point, 'attributes'>) =>
			Object.fromEntries(point.attributes.map(({ key, value }) => [key, value.stringValue]));
		expect(attributes(present(resource, 'a resource').resource)).toMatchObject({
			'service.name': 'gpuaas',
			'host.name': 'gpu-0',
			'host.id': first?.id,
		});
		const metrics = present(resource, 'a resource').scopeMetrics.flatMap((scope) => scope.metrics);
		const named = (name: string) =>
			present(
				metrics.find((metric) => metric.name === name),
				name,
			);
		expect(metrics.map(({ name }) => name).filter((name) => name.startsWith('DCGM'))).toEqual([]);
		const usage = named('hw.gpu.memory.usage');
		expect(usage.unit).toBe('By');
		expect(attributes(present(usage.gauge?.dataPoints[0], 'a point'))).toMatchObject({
			'hw.type': 'gpu',
			'hw.id': 'GPU-00000000-0000-4000-8000-000000000000',
			simulated: 'true',
		});
		const energy = named('hw.energy');
		expect(energy).toMatchObject({ unit: 'J', sum: { isMonotonic: true } });
		expect(energy.sum?.aggregationTemporality).toBe('AGGREGATION_TEMPORALITY_CUMULATIVE');
		expect(
			named('hw.temperature')
				.gauge?.dataPoints.map((point) => attributes(point)['hw.sensor_location'])
				.sort(),
		).toEqual(['gpu', 'memory']);
		const at = BigInt(present(usage.gauge?.dataPoints[0], 'a point').timeUnixNano);
		expect(at / 1_000_000n).toBe(BigInt(Math.round(sample.receivedAtMs)));
		const ended = decode(present(bodies[1], 'a body'))
			.flatMap(({ scopeMetrics }) => scopeMetrics.flatMap((scope) => scope.metrics))
			.flatMap(({ gauge, sum }) => (gauge ?? sum)?.dataPoints ?? []);
		expect(ended.length).toBeGreaterThan(100);
		expect(ended.every(({ flags, asDouble }) => flags === 1 && asDouble === undefined)).toBe(true);
	});
});
