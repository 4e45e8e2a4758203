import { create, fromBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { recordFacts } from '../../control-plane/app/tasks/record-facts.ts';
import { systemContext } from '../../control-plane/context.ts';
import { systemClock } from '../../kit/clock.ts';
import { silentLogger } from '../../kit/log.ts';
import { type Fact, FactSchema } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import {
	type HealthFact,
	HealthFactKind,
	HealthFactSchema,
	HealthSource,
	HealthSubjectKind,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { startWorld, type World } from './link-world.ts';

/** What agents say about health: facts made by hand, committed by what commits those of agents. */
const ctx = systemContext('test', systemClock, silentLogger, 'test');
let world: World;
let told: (readonly [nodeId: string, codes: readonly string[]])[];
beforeAll(async () => {
	world = await startWorld();
});
afterAll(() => world[Symbol.asyncDispose]());

const record = (nodeId: string, facts: readonly Fact[], epoch = 0) =>
	recordFacts(
		{
			...world.app,
			appendAudit: world.appendAudit,
			onHealthFacts: (node, health) => void told.push([node, health.map(({ code }) => code)]),
		},
		ctx,
		{ nodeId, epoch },
		facts,
	);
const stored = (nodeId: string, limit = 1000) => world.store.read((tx) => tx.healthFacts.ofNode(nodeId, limit));

function xid(seq: number, code = 'xid:79', uuid = 'GPU-1'): Fact {
	const health: HealthFact = create(HealthFactSchema, {
		kind: HealthFactKind.XID,
		subject: { kind: HealthSubjectKind.GPU, id: uuid },
		source: HealthSource.KMSG,
		observedAt: timestampFromMs(1),
		code,
		raw: 'NVRM: Xid (PCI:0000:1b:00): 79, GPU has fallen off the bus.',
		count: 1,
	});
	return create(FactSchema, { seq: BigInt(seq), at: timestampFromMs(1), fact: { case: 'health', value: health } });
}

test('are stored whole, once, in order, with the custody of the moment, and told once they are', async () => {
	told = [];
	const { nodeId } = await world.enroll();
	const first = [xid(1), xid(2, 'xid:48'), xid(3, 'xid:79', 'GPU-2')];
	expect(await record(nodeId, first)).toBe(3n);
	// The acknowledgement was lost: the agent sends them again, and one more.
	expect(await record(nodeId, [...first, xid(4, 'xid:63')])).toBe(4n);
	await world.store.unit((tx) => tx.nodes.update(nodeId, { custody: 'tenant' }));
	await record(nodeId, [xid(5, 'xid:31')]);
	const rows = await stored(nodeId);
	expect(rows.map(({ factSeq, custody, kind, subjectId, code }) => [factSeq, custody, kind, subjectId, code])).toEqual([
		[5, 'tenant', 'XID', 'GPU-1', 'xid:31'],
		[4, 'platform', 'XID', 'GPU-1', 'xid:63'],
		[3, 'platform', 'XID', 'GPU-2', 'xid:79'],
		[2, 'platform', 'XID', 'GPU-1', 'xid:48'],
		[1, 'platform', 'XID', 'GPU-1', 'xid:79'],
	]);
	const last = fromBinary(HealthFactSchema, rows.at(-1)?.fact ?? new Uint8Array());
	expect(last).toEqual(first[0]?.fact.value);
	expect(told).toEqual([
		[nodeId, ['xid:79', 'xid:48', 'xid:79']],
		[nodeId, ['xid:63']],
		[nodeId, ['xid:31']],
	]);
});

test('of a session that was replaced are not stored, and nobody is told', async () => {
	told = [];
	const { nodeId } = await world.enroll();
	await expect(record(nodeId, [xid(1)], 9)).rejects.toMatchObject({ reason: 'SESSION_SUPERSEDED' });
	expect(await stored(nodeId)).toEqual([]);
	expect(told).toEqual([]);
});

test('are bounded: the oldest go first, and a tenant’s agent pushes out none that the platform saw', async () => {
	told = [];
	const { nodeId } = await world.enroll();
	await record(nodeId, [xid(1, 'xid:48')]);
	await world.store.unit((tx) => tx.nodes.update(nodeId, { custody: 'tenant' }));
	for (let from = 2; from < 1202; from += 400)
		await record(
			nodeId,
			Array.from({ length: 400 }, (_, index) => xid(from + index)),
		);
	const rows = await stored(nodeId, 5000);
	expect(rows).toHaveLength(513);
	expect(rows[0]?.factSeq).toBe(1201);
	expect(rows.at(-1)).toMatchObject({ factSeq: 1, custody: 'platform', code: 'xid:48' });
});
