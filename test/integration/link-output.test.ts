import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import type { OutputPiece, OutputSource } from '../../agent/control/command-sink.ts';
import { GrpcTransport } from '../../agent/control/grpc-transport.ts';
import { OutputUploader } from '../../agent/control/output-uploader.ts';
import type { TaskRow } from '../../control-plane/store/port/tasks.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { aborted } from '../../kit/scope.ts';
import { generateNodeKey } from '../../pki/keys/node-key.ts';
import { createCsr } from '../../pki/x509/csr.ts';
import {
	RenewCertificateRequestSchema,
	UploadOutputRequestSchema,
	type UploadOutputResponse,
} from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { OutputStream } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { eventually } from '../eventually.ts';
import { DelayRelay } from '../fakes/delay-relay.ts';
import { startWorld, type TestAgent, targetOf, type World } from './link-world.ts';

/** Attempts whose output is made of numbered chunks, as a spool would give them. */
class NumberedOutput implements OutputSource {
	readonly attempts = new Map<string, { chunks: number; chunkBytes: number; stored: boolean; reads: number[] }>();
	#listener = () => {};

	add(taskId: string, chunks: number, chunkBytes: number): void {
		this.attempts.set(taskId, { chunks, chunkBytes, stored: false, reads: [] });
		this.#listener();
	}

	async *read(taskId: string, _attempt: number, fromOffset: bigint, _signal?: AbortSignal): AsyncIterable<OutputPiece> {
		const output = this.attempts.get(taskId);
		if (output === undefined) return;
		output.reads.push(Number(fromOffset));
		for (let index = Number(fromOffset) / output.chunkBytes; index < output.chunks; index += 1) {
			const data = new Uint8Array(output.chunkBytes).fill(index % 251);
			yield { offset: BigInt(index * output.chunkBytes), stream: 'stdout', data, droppedBytes: 0n };
		}
	}

	pending() {
		const pending = [];
		for (const [taskId, { stored }] of this.attempts)
			if (!stored) pending.push({ taskId, attempt: 1, fencingToken: 1n });
		return pending;
	}

	onPending(listener: () => void): void {
		this.#listener = listener;
	}

	stored(taskId: string): void {
		const output = this.attempts.get(taskId);
		if (output !== undefined) output.stored = true;
	}
}

async function addTask(world: World, nodeId: string, change: Partial<TaskRow> = {}): Promise<string> {
	const id = uuidv7(systemClock.now(), systemRng);
	const row: TaskRow = {
		id,
		nodeId,
		state: 'running',
		kind: 'run',
		spec: new Uint8Array(),
		createdBy: 'test',
		attempt: 1,
		attemptsMax: 1,
		fencingToken: 1,
		timeoutMs: 1000,
		outputBytesMax: 1 << 30,
		createdAtMs: systemClock.now(),
		queueDeadlineMs: systemClock.now() + 1000,
		leaseUntilMs: null,
		acceptedAtMs: systemClock.now(),
		startedAtMs: systemClock.now(),
		endedAtMs: null,
		exitCode: null,
		signal: null,
		reason: '',
		message: '',
		outputBytes: 0,
		outputDroppedBytes: 0,
		outputComplete: false,
		limitsEnforcedBy: '',
		cancelRequestedAtMs: null,
		cancelGraceMs: null,
		batchId: '',
		correlationId: '',
		custody: 'platform',
		assignmentId: null,
		organization: null,
		project: null,
		generation: 1,
		...change,
	};
	await world.store.unit((tx) => tx.tasks.insert(row));
	return id;
}

function uploading(agent: TestAgent, output: NumberedOutput): AbortController {
	const stopping = new AbortController();
	const uploader = new OutputUploader({ clock: systemClock, rng: systemRng, log: silentLogger, output });
	uploader.start(stopping.signal);
	agent.control.onConnection((connection) => uploader.setConnection(connection));
	agent.start();
	return stopping;
}

const storedBytes = (world: World, taskId: string) => world.output.storedOffset(taskId, 1);

test('several outputs come whole and in order, and are marked complete', async () => {
	await using world = await startWorld();
	const agent = world.agent(await world.enroll());
	const output = new NumberedOutput();
	const stopping = uploading(agent, output);
	const tasks = await Promise.all(Array.from({ length: 6 }, () => addTask(world, agent.identity.nodeId)));
	for (const taskId of tasks) output.add(taskId, 200, 16 * 1024);
	await eventually('all are stored', () => output.pending().length === 0);
	for (const taskId of tasks) {
		const chunks = await world.output.read(taskId, 1);
		expect(chunks.map(({ offset }) => offset)).toEqual(Array.from({ length: 200 }, (_, index) => index * 16 * 1024));
		expect(chunks.every(({ data }, index) => data.every((byte) => byte === index % 251))).toBe(true);
		expect((await world.store.read((tx) => tx.tasks.get(taskId)))?.outputComplete).toBe(true);
	}
	stopping.abort();
});

test('an upload that is cut goes on from what is stored', async () => {
	await using world = await startWorld({ appLimits: { leaseTtlFloorMs: 5000 } });
	await using relay = await DelayRelay.listen({ host: '127.0.0.1', port: world.gateway.port }, 2);
	const agent = world.agent(await world.enroll({ gateways: [`127.0.0.1:${relay.port}`] }));
	const output = new NumberedOutput();
	const stopping = uploading(agent, output);
	const taskId = await addTask(world, agent.identity.nodeId);
	const bytes = 1500 * 16 * 1024;
	output.add(taskId, 1500, 16 * 1024);
	for (const part of [0.1, 0.4, 0.7]) {
		await eventually(`${part} of it`, async () => (await storedBytes(world, taskId)) >= bytes * part);
		relay.cut();
	}
	await eventually('all is stored', () => output.pending().length === 0);
	const chunks = await world.output.read(taskId, 1);
	expect(chunks.map(({ offset }) => offset)).toEqual(Array.from({ length: 1500 }, (_, index) => index * 16 * 1024));
	const reads = output.attempts.get(taskId)?.reads ?? [];
	expect(reads.length).toBeGreaterThan(1);
	expect(reads.slice(1).every((offset) => offset > 0)).toBe(true);
	stopping.abort();
});

test('a slow output store holds back the upload: at most 4 MiB is on the way, and the link goes on', async () => {
	await using world = await startWorld({ appLimits: { leaseTtlFloorMs: 5000 } });
	let release = () => {};
	world.output.gate = new Promise((resolve) => {
		release = resolve;
	});
	const agent = world.agent(await world.enroll());
	const output = new NumberedOutput();
	let given = 0;
	const read = output.read.bind(output);
	output.read = async function* (taskId, attempt, fromOffset) {
		for await (const piece of read(taskId, attempt, fromOffset)) {
			given += piece.data.length;
			yield piece;
		}
	};
	const stopping = uploading(agent, output);
	const taskId = await addTask(world, agent.identity.nodeId);
	output.add(taskId, 400, 64 * 1024);
	await eventually('the first append waits', () => world.output.appends > 0);
	await eventually('what follows it comes meanwhile, a window of it', () => given > 1024 * 1024 + 2 * 64 * 1024);
	const epoch = agent.control.state().epoch;
	const lease = async () => (await world.store.read((tx) => tx.sessions.get(agent.identity.nodeId)))?.leaseUntilMs ?? 0;
	const until = (await lease()) + 600;
	await eventually('two leases are renewed meanwhile', async () => (await lease()) > until);
	expect(given).toBeLessThanOrEqual(4 * 1024 * 1024 + 2 * 64 * 1024);
	expect(agent.control.state().epoch).toBe(epoch);
	release();
	await eventually('all is stored', () => output.pending().length === 0);
	stopping.abort();
});

test('an upload that waits for no acknowledgement is held back by the gateway alone', async () => {
	await using world = await startWorld();
	let release = () => {};
	world.output.gate = new Promise((resolve) => {
		release = resolve;
	});
	const appended: number[] = [];
	const append = world.output.append.bind(world.output);
	world.output.append = (task, attempt, chunks, max) => {
		appended.push(chunks.reduce((sum, { data }) => sum + data.length, 0));
		return append(task, attempt, chunks, max);
	};
	const identity = await world.enroll();
	const taskId = await addTask(world, identity.nodeId);
	const connection = new GrpcTransport(systemClock).open(targetOf(identity, `127.0.0.1:${world.gateway.port}`));
	const open = (task: string) => {
		const first = Promise.withResolvers<void>();
		const over = Promise.withResolvers<void>();
		const stream = connection.uploadOutput({
			onFrame: () => first.resolve(),
			onWritable: () => {},
			onClosed: () => over.resolve(),
		});
		const hello = { taskId: task, attempt: 1, fencingToken: 1n };
		stream.send(create(UploadOutputRequestSchema, { message: { case: 'hello', value: hello } }));
		return { stream, first: first.promise, over: over.promise };
	};
	const upload = open(taskId);
	await upload.first;
	const data = new Uint8Array(64 * 1024);
	const chunks = 24 * 16;
	for (let index = 0; index < chunks; index += 1) {
		const value = { offset: BigInt(index * data.length), stream: OutputStream.STDOUT, data };
		upload.stream.send(create(UploadOutputRequestSchema, { message: { case: 'chunk', value } }));
	}
	// Each of these has its answer after all that the window let through before it, and a window is 1 MiB.
	for (let windows = 0; windows < 48; windows += 1) await open(uuidv7(systemClock.now(), systemRng)).over;
	expect(appended).toHaveLength(1);
	release();
	await eventually('all of it is stored', async () => (await storedBytes(world, taskId)) === chunks * data.length);
	// What waits for the store, and the chunk that filled it.
	expect(Math.max(...appended)).toBeLessThanOrEqual(1024 * 1024 + data.length);
	connection.close();
});

test('an output goes on over the second connection when a certificate is renewed', async () => {
	await using world = await startWorld();
	const agent = world.agent(await world.enroll());
	const output = new NumberedOutput();
	const ends = Promise.withResolvers<void>();
	const read = output.read.bind(output);
	// Of a task that still runs.
	output.read = async function* (taskId, attempt, fromOffset, signal) {
		let next = fromOffset;
		for await (const piece of read(taskId, attempt, fromOffset)) {
			next = piece.offset + BigInt(piece.data.length);
			yield piece;
		}
		await Promise.race([ends.promise, aborted(present(signal, 'a signal'))]);
		if (signal?.aborted !== true) yield* read(taskId, attempt, next);
	};
	const stopping = uploading(agent, output);
	const taskId = await addTask(world, agent.identity.nodeId);
	output.add(taskId, 100, 1024);
	await eventually('what there is is stored', async () => (await storedBytes(world, taskId)) === 100 * 1024);
	const key = generateNodeKey();
	const request = create(RenewCertificateRequestSchema, {
		csr: createCsr(key.signer),
		joinState: agent.identity.joinState(),
	});
	const issued = await agent.control.renewCertificate(request, new AbortController().signal);
	agent.identity.storeRenewal({ chain: issued.chain, keyPem: key.privateKeyPem, joinState: issued.joinState });
	await eventually('the link has moved', () => agent.control.state().epoch === 2);
	const reads = () => output.attempts.get(taskId)?.reads ?? [];
	await eventually('it is read on from where it was', () => reads().at(-1) === 100 * 1024 && reads().length > 1);
	const attempt = present(output.attempts.get(taskId), 'the attempt');
	attempt.chunks = 150;
	ends.resolve();
	await eventually('all is stored', () => output.pending().length === 0);
	expect(await storedBytes(world, taskId)).toBe(150 * 1024);
	stopping.abort();
});

test("another node's task, an older attempt and too many uploads are refused, and nobody waits for them", async () => {
	await using world = await startWorld({ limits: { uploadsPerNodeMax: 2 } });
	const agent = world.agent(await world.enroll());
	const other = await world.enroll();
	const output = new NumberedOutput();
	const stopping = uploading(agent, output);
	const foreign = await addTask(world, other.nodeId);
	output.add(foreign, 10, 1024);
	await eventually('the agent lets go of it', () => output.pending().length === 0);
	expect(await storedBytes(world, foreign)).toBe(0);

	const own = await addTask(world, agent.identity.nodeId);
	const connection = new GrpcTransport(systemClock).open(targetOf(agent.identity, `127.0.0.1:${world.gateway.port}`));
	const upload = (fencingToken = 1n) => {
		const frames: UploadOutputResponse[] = [];
		const ends: string[] = [];
		const stream = connection.uploadOutput({
			onFrame: (frame) => frames.push(frame),
			onWritable: () => {},
			onClosed: ({ reason }) => ends.push(reason),
		});
		const value = { taskId: own, attempt: 1, fencingToken };
		stream.send(create(UploadOutputRequestSchema, { message: { case: 'hello', value } }));
		return { frames, ends, stream };
	};
	const stale = upload(9n);
	await eventually('a stale claim is refused', () => stale.ends[0] === 'TASK_ENDED');
	const first = upload();
	const second = upload();
	await eventually('two are open', () => first.frames.length === 1 && second.frames.length === 1);
	const third = upload();
	await eventually('a third is not', () => third.ends[0] === 'RATE_LIMITED');

	await world.store.unit((tx) =>
		tx.certificates.update(agent.identity.credential().serial, {
			state: 'revoked',
			revokedAtMs: systemClock.now(),
			revocationReason: 'test',
		}),
	);
	world.app.bus.publish({ topic: 'certificates.revoked', key: agent.identity.credential().serial });
	await eventually('a revocation ends uploads too', () => first.ends.length === 1 && second.ends.length === 1);
	await eventually('none counts', () => world.registry.attachedCount(agent.identity.nodeId) === 0);
	connection.close();
	stopping.abort();
});

test('an upload that says no Hello counts against its node and ends in time, with its connection when it must', async () => {
	await using world = await startWorld({ limits: { uploadsPerNodeMax: 2, helloTimeoutMs: 6000 } });
	const identity = await world.enroll();
	const connection = new GrpcTransport(systemClock).open(targetOf(identity, `127.0.0.1:${world.gateway.port}`));
	const open = () => {
		const ends: { code: string; message: string }[] = [];
		const stream = connection.uploadOutput({
			onFrame: () => {},
			onWritable: () => {},
			onClosed: ({ code, message }) => ends.push({ code, message }),
		});
		return { ends, stream };
	};
	const silent = [open(), open()];
	await eventually('both count', () => world.registry.attachedCount(identity.nodeId) === 2);
	const third = open();
	await eventually('a third is refused before it said anything', () => third.ends[0]?.code === 'RESOURCE_EXHAUSTED');
	await eventually('the silent ones end', () => silent.every(({ ends }) => ends.length === 1));
	expect(silent.map(({ ends }) => ends[0])).toEqual(
		Array(2).fill({ code: 'INVALID_ARGUMENT', message: 'no Hello came' }),
	);
	await eventually('none counts', () => world.registry.attachedCount(identity.nodeId) === 0);
	connection.close();
});

test('the output of the 20th running task is seen while 19 others go on', async () => {
	await using world = await startWorld();
	const agent = world.agent(await world.enroll());
	const output = new NumberedOutput();
	const running = Promise.withResolvers<void>();
	const read = output.read.bind(output);
	output.read = async function* (taskId, attempt, fromOffset) {
		yield* read(taskId, attempt, fromOffset);
		await running.promise;
	};
	const stopping = uploading(agent, output);
	const tasks = await Promise.all(Array.from({ length: 20 }, () => addTask(world, agent.identity.nodeId)));
	for (const taskId of tasks) output.add(taskId, 1, 1024);
	await eventually('all are seen', async () => {
		const stored = await Promise.all(tasks.map((taskId) => storedBytes(world, taskId)));
		return stored.every((bytes) => bytes === 1024);
	});
	expect(output.pending()).toHaveLength(20);
	running.resolve();
	await eventually('all are stored', () => output.pending().length === 0);
	stopping.abort();
});

test('output past what the task may have is cut, and the agent lets go of it', async () => {
	await using world = await startWorld();
	const agent = world.agent(await world.enroll());
	const output = new NumberedOutput();
	const stopping = uploading(agent, output);
	const taskId = await addTask(world, agent.identity.nodeId, { outputBytesMax: 64 * 1024 });
	output.add(taskId, 400, 16 * 1024);
	await eventually('the agent lets go of it', () => output.pending().length === 0);
	const bytes = await storedBytes(world, taskId);
	expect(bytes).toBeGreaterThanOrEqual(64 * 1024);
	expect(bytes).toBeLessThanOrEqual(2 * 64 * 1024 + 1024 * 1024);
	// Closed: who follows it doesn't wait for more.
	expect((await world.store.read((tx) => tx.tasks.get(taskId)))?.outputComplete).toBe(true);
	stopping.abort();
});

test.each([
	['a stream that has no name', { offset: 0n, stream: OutputStream.UNSPECIFIED, data: new Uint8Array(1) }],
	['too much at once', { offset: 0n, stream: OutputStream.STDOUT, data: new Uint8Array(1024 * 1024 + 1) }],
	[
		'a gap larger than its offset',
		{ offset: 5n, stream: OutputStream.STDOUT, data: new Uint8Array(1), droppedBytes: 6n },
	],
	['an offset that no file has', { offset: 1n << 63n, stream: OutputStream.STDOUT, data: new Uint8Array(1) }],
])('a chunk with %s ends the upload', async (_name, value) => {
	await using world = await startWorld();
	const identity = await world.enroll();
	const taskId = await addTask(world, identity.nodeId);
	const connection = new GrpcTransport(systemClock).open(targetOf(identity, `127.0.0.1:${world.gateway.port}`));
	const frames: UploadOutputResponse[] = [];
	const ends: string[] = [];
	const stream = connection.uploadOutput({
		onFrame: (frame) => frames.push(frame),
		onWritable: () => {},
		onClosed: ({ reason }) => ends.push(reason),
	});
	const hello = { taskId, attempt: 1, fencingToken: 1n };
	stream.send(create(UploadOutputRequestSchema, { message: { case: 'hello', value: hello } }));
	await eventually('it is open', () => frames.length === 1);
	stream.send(create(UploadOutputRequestSchema, { message: { case: 'chunk', value } }));
	await eventually('it ends', () => ends[0] === 'INVALID_REQUEST');
	expect(await storedBytes(world, taskId)).toBe(0);
	connection.close();
});
