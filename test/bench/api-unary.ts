import { connect } from 'node:http2';
import { create, toBinary } from '@bufbuild/protobuf';
import { daemonNodeArgs } from '../../cli/daemon.ts';
import { assert } from '../../kit/assert.ts';
import { GetVersionRequestSchema } from '../../proto/gen/gpuaas/system/v1/system_pb.ts';
import { GetTaskRequestSchema } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import type { ApiReady } from './api-main.ts';
import { BenchChild } from './child.ts';
import { rateDuring } from './measure.ts';
import { atLeast, type Row } from './row.ts';

/**
 * Unary calls of the API over TLS and HTTP/2: authenticated GetTask (authentication, rate, validation, decision, read),
 * and GetVersion, which anybody may call. The server is a process of its own; the caller speaks bare HTTP/2, so that the
 * server is what is slow. n is the number of calls under way. Besides calls a second: CPU time of the server a call,
 * which other programs on the machine don't disturb.
 */
const WINDOW_MS = 500;

export const row: Row = {
	name: 'api-unary',
	what: 'authenticated GetTask',
	unit: '1/s',
	per: 'calls at once',
	reference: 'echo of the same answer on bare connect-node',
	targets: [
		atLeast(0.5, 'GetTask >= 50 % of bare', ({ n, ratio }) => (n === 1 ? undefined : ratio?.median)),
		atLeast(0.5, 'GetVersion >= 50 % of bare', ({ n, also }) => (n === 1 ? undefined : also.versionRatio?.median)),
	],
	sizes: { full: [1, 10, 100], quick: [1, 10] },
	repetitions: { full: 5, quick: 2 },
	budgetSeconds: 45,
	async open() {
		const server = new BenchChild('./api-main.ts', {}, daemonNodeArgs('control-plane'));
		const ready = (await server.ready) as ApiReady;
		const product = caller(ready.url, ready);
		const bare = caller(ready.bareUrl, ready);
		const getTask = body(toBinary(GetTaskRequestSchema, create(GetTaskRequestSchema, { taskId: ready.taskId })));
		const getVersion = body(toBinary(GetVersionRequestSchema, create(GetVersionRequestSchema)));
		const measure = async (n: number, call: () => Promise<void>) => {
			const beforeUs = await server.ask<number>('cpu');
			const { rate, calls } = await rateDuring(WINDOW_MS, n, call);
			return { rate, cpuUs: ((await server.ask<number>('cpu')) - beforeUs) / calls };
		};
		const task = '/gpuaas.tasks.v1.TaskService/GetTask';
		const version = '/gpuaas.system.v1.SystemService/GetVersion';
		for (const { call } of [product, bare]) await rateDuring(2 * WINDOW_MS, 10, () => call(task, getTask));
		return {
			async run(n) {
				const own = await measure(n, () => product.call(task, getTask));
				const echo = await measure(n, () => bare.call(task, getTask));
				const ownVersion = await measure(n, () => product.call(version, getVersion));
				const echoVersion = await measure(n, () => bare.call(version, getVersion));
				return {
					value: own.rate,
					reference: echo.rate,
					also: {
						cpuUsPerCall: own.cpuUs,
						bareCpuUsPerCall: echo.cpuUs,
						cpuRatio: echo.cpuUs / own.cpuUs,
						versionPerSecond: ownVersion.rate,
						versionRatio: ownVersion.rate / echoVersion.rate,
					},
				};
			},
			async [Symbol.asyncDispose]() {
				product.close();
				bare.close();
				await server[Symbol.asyncDispose]();
			},
		};
	},
};

function body(bytes: Uint8Array): Buffer {
	return Buffer.from(bytes);
}

function caller(url: string, { rootPem, key }: ApiReady) {
	const session = connect(url, { ca: rootPem });
	const call = (path: string, bytes: Buffer): Promise<void> =>
		new Promise((resolve, reject) => {
			const stream = session.request({
				':method': 'POST',
				':path': path,
				'content-type': 'application/proto',
				'connect-protocol-version': '1',
				authorization: `Bearer ${key}`,
			});
			let status = 0;
			stream.on('response', (headers) => {
				status = headers[':status'] ?? 0;
			});
			stream.on('error', reject);
			stream.on('data', () => {});
			stream.on('end', () => {
				assert(status === 200, `${path} is answered (HTTP ${status})`);
				resolve();
			});
			stream.end(bytes);
		});
	return { call, close: () => session.destroy() };
}
