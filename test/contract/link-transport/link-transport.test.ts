import { create } from '@bufbuild/protobuf';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { GrpcTransport } from '../../../agent/control/grpc-transport.ts';
import type { LinkTransport, StreamEnd } from '../../../agent/control/link-transport.ts';
import type { StoredIdentity } from '../../../agent/identity/stored-identity.ts';
import { systemClock } from '../../../kit/clock.ts';
import { generateNodeKey } from '../../../pki/keys/node-key.ts';
import { createCsr } from '../../../pki/x509/csr.ts';
import {
	CloseCode,
	RenewCertificateRequestSchema,
	UploadOutputRequestSchema,
} from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { eventually } from '../../eventually.ts';
import { auditFacts, makeAgent, startWorld, targetOf, type World } from '../../integration/link-world.ts';
import { RawLink } from '../../integration/raw-link.ts';
import { type MemoryGateway, MemoryTransport, memoryGateway } from './memory-transport.ts';

/** What every transport of the link must do, on each implementation: the agent and the gateway can't tell them apart. */
interface Subject {
	readonly transport: LinkTransport;
	/** Where the gateway is. */
	readonly address: string;
	/** Where nothing is. */
	readonly nowhere: string;
	close(): Promise<void>;
}

const SUBJECTS: Readonly<Record<string, (world: World) => Subject>> = {
	'grpc-js': (world) => ({
		transport: new GrpcTransport(systemClock),
		address: `127.0.0.1:${world.gateway.port}`,
		nowhere: '127.0.0.1:1',
		close: async () => {},
	}),
	memory: (world) => {
		const gateway: MemoryGateway = memoryGateway(world.linkDeps);
		gateway.link.start();
		const transport = new MemoryTransport({
			clock: systemClock,
			gateway: (address) => (address === 'gateway:1' ? gateway : undefined),
		});
		return { transport, address: 'gateway:1', nowhere: 'gateway:2', close: () => gateway.link.shutdown() };
	},
};

describe.each(Object.keys(SUBJECTS))('link transport: %s', (name) => {
	let world: World;
	let subject: Subject;
	let identity: StoredIdentity;
	const links: RawLink[] = [];

	beforeEach(async () => {
		// Those who are connected here say nothing by themselves: their silence is no end, however slow the machine.
		world = await startWorld({ appLimits: { leaseTtlFloorMs: 600_000 }, limits: { helloTimeoutMs: 600_000 } });
		const make = SUBJECTS[name];
		if (make === undefined) throw new Error(`no subject ${name}`);
		subject = make(world);
		identity = await world.enroll({ gateways: [subject.address] });
	});
	afterEach(async () => {
		for (const link of links.splice(0)) link.close();
		await subject.close();
		await world[Symbol.asyncDispose]();
	});
	const open = (address = subject.address) => {
		const link = new RawLink(subject.transport, identity, address);
		links.push(link);
		return link;
	};

	test('frames come in order and whole, in both directions', async () => {
		const link = open();
		await link.hello({ factSeq: 500n }).welcomed();
		for (let seq = 1n; seq <= 500n; seq += 1n) link.fact(seq, `${seq}`);
		await eventually('all are committed', () => link.factAck() === 500n);
		const seqs = world.committed.flatMap(({ facts }) => facts);
		expect(seqs).toEqual(Array.from({ length: 500 }, (_, index) => BigInt(index + 1)));
		for (let count = 0; count < 100; count += 1) {
			const offer = { taskId: `t${count}`, attempt: 1, correlationId: '', envelope: new Uint8Array() };
			expect(world.registry.offer(identity.nodeId, offer)).toBe(true);
		}
		await eventually('all commands came', () => link.commands().length === 100);
		expect(link.commands()).toEqual(Array.from({ length: 100 }, (_, index) => BigInt(index + 1)));
	});

	test('what was sent before the end of a stream arrives, then its status, once', async () => {
		const link = open();
		await link.hello().welcomed();
		world.registry.close(identity.nodeId, CloseCode.LOCKED, 'an operator looks at it');
		const { code, end } = await link.closed();
		expect(code).toBe(CloseCode.LOCKED);
		expect(end).toMatchObject({ code: 'PERMISSION_DENIED', reason: 'NODE_LOCKED', message: 'an operator looks at it' });
		expect(link.endCount).toBe(1);
		expect(link.send({ case: 'heartbeat', value: {} })).toBe(false);
	});

	test('a gateway that is not there is an end, not an exception, and not before the stream was returned', async () => {
		let stream: unknown;
		let wasInHand = false;
		const ends: StreamEnd[] = [];
		const connection = subject.transport.open(targetOf(identity, subject.nowhere));
		stream = connection.connect({
			onFrame: () => {},
			onWritable: () => {},
			onClosed: (end) => {
				wasInHand = stream !== undefined;
				ends.push(end);
			},
		});
		await eventually('it is over', () => ends.length > 0);
		expect(ends).toMatchObject([{ code: 'UNAVAILABLE' }]);
		expect(wasInHand).toBe(true);
		connection.close();
	});

	test('closing a connection ends its streams here and there; a stream on a closed one ends too', async () => {
		const link = open();
		await link.hello().welcomed();
		link.close();
		expect((await link.closed()).end.code).toBe('CANCELLED');
		await eventually('the server noticed', () => !world.registry.isConnected(identity.nodeId));
		const ends: string[] = [];
		link.connection.connect({ onFrame: () => {}, onWritable: () => {}, onClosed: ({ code }) => ends.push(code) });
		await eventually('it ends', () => ends.length === 1);
		link.close();
		expect(link.endCount).toBe(1);
	});

	test('a sender that outruns the receiver is told so, and then that there is room', async () => {
		const link = open();
		await link.hello({ factSeq: 100_000n }).welcomed();
		let seq = 0n;
		let refusals = 0;
		while (refusals === 0 && seq < 50_000n) {
			seq += 1n;
			if (!link.fact(seq, 'x'.repeat(1500))) refusals += 1;
		}
		expect(refusals).toBe(1);
		await eventually('there is room again', () => link.writableCount > 0);
		await eventually('all are committed', () => link.factAck() === seq);
	});

	test('a renewal answers, and is refused with its reason', async () => {
		const link = open();
		await link.hello().welcomed();
		const { signal } = new AbortController();
		const csr = createCsr(generateNodeKey().signer);
		const request = create(RenewCertificateRequestSchema, { csr, joinState: identity.joinState() });
		const { chain } = await link.connection.renewCertificate(request, signal);
		expect(chain.length).toBeGreaterThan(1);
		const broken = create(RenewCertificateRequestSchema, { csr: new Uint8Array([1]), joinState: identity.joinState() });
		await expect(link.connection.renewCertificate(broken, signal)).rejects.toMatchObject({ reason: 'CSR_INVALID' });
	});

	test('uploads are streams beside the link', async () => {
		const link = open();
		await link.hello().welcomed();
		const ends: string[] = [];
		const stream = link.connection.uploadOutput({
			onFrame: () => {},
			onWritable: () => {},
			onClosed: ({ reason }) => ends.push(reason),
		});
		const value = { taskId: identity.nodeId, attempt: 1, fencingToken: 1n };
		stream.send(create(UploadOutputRequestSchema, { message: { case: 'hello', value } }));
		await eventually('nobody wants it', () => ends[0] === 'TASK_NOT_FOUND');
		expect(link.end).toBeUndefined();
	});

	test('a whole agent works over it', async () => {
		const agent = makeAgent(identity, subject.transport, {});
		agent.start();
		agent.journal.appendFacts(auditFacts(50));
		await eventually('facts are acknowledged', () => agent.journal.usage().unackedFacts === 0);
		await agent.stop();
		await eventually('it is gone', () => !world.registry.isConnected(identity.nodeId));
	});
});
