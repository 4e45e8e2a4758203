import { create, fromBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { StoredIdentity } from '../../agent/identity/stored-identity.ts';
import type { AttemptRow } from '../../agent/journal/journal.ts';
import { acceptedFact, auditFact, finishedFact, startedFact } from '../../agent/tasks/facts.ts';
import { AgentAuditLimit } from '../../control-plane/app/tasks/agent-audit-limit.ts';
import { signEnvelope } from '../../control-plane/app/tasks/envelope.ts';
import { recordFacts } from '../../control-plane/app/tasks/record-facts.ts';
import { openUpload } from '../../control-plane/app/tasks/upload-output.ts';
import { systemContext } from '../../control-plane/context.ts';
import type { TaskRow } from '../../control-plane/store/port/tasks.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { silentLogger } from '../../kit/log.ts';
import { generateNodeKey } from '../../pki/keys/node-key.ts';
import { verifyDsseOnThread } from '../../pki/verify/dsse.ts';
import { sha256 } from '../../pki/verify/signature.ts';
import { outputSha256OfChunks } from '../../pki/verify/task-output.ts';
import { DsseEnvelopeSchema } from '../../proto/gen/gpuaas/common/v1/types_pb.ts';
import { type Fact, FactSchema, OutputHelloSchema, type TaskFinished } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { TaskOutcomeSchema, TaskResult } from '../../proto/gen/gpuaas/link/v1/task_documents_pb.ts';
import { OutputChunkSchema, OutputStream, TaskSpecSchema } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { claimQueued } from '../contract/store/claim-queued.ts';
import { auditFacts, startWorld, type World } from './link-world.ts';
import { run, taskRow } from './tasks-world.ts';

/** What the control plane believes of an agent: facts are made by hand, everything that judges them is real. */
const ctx = systemContext('test', systemClock, silentLogger, 'test');

interface Leased {
	readonly identity: StoredIdentity;
	readonly task: TaskRow;
	readonly row: AttemptRow;
}

type Signatory = Parameters<typeof finishedFact>[3]['identity'];

/** Signs with a key of its own, and shows the node's certificate. */
function wrongKey({ identity }: Leased): Signatory {
	const key = generateNodeKey().signer;
	const { nodeId, generation } = identity;
	return { nodeId, generation, sign: (bytes) => ({ ...identity.sign(bytes), signature: key.signSync(bytes) }) };
}

/** Signs with a key of its own, and a certificate that is the node's in all but that. */
function ownKey({ identity }: Leased): Signatory {
	const key = generateNodeKey().signer;
	const { nodeId, generation } = identity;
	const sign = (bytes: Uint8Array) => {
		const { certificate } = identity.sign(bytes);
		return { keyId: key.keyId, signature: key.signSync(bytes), certificate: withKey(certificate, key.spki()) };
	};
	return { nodeId, generation, sign };
}

/** The same certificate but for its key, which is of the same kind. Nobody has signed it so. */
function withKey(certificate: Uint8Array, spki: Uint8Array): Uint8Array {
	const changed = Buffer.from(certificate);
	// All of it but the point.
	const at = changed.indexOf(spki.subarray(0, spki.length - 64));
	expect(at).toBeGreaterThan(0);
	changed.set(spki, at);
	return new Uint8Array(changed);
}

describe('facts and receipts', () => {
	let world: World;
	beforeAll(async () => {
		world = await startWorld();
	});
	afterAll(() => world[Symbol.asyncDispose]());

	const taskNow = async (id: string) => present(await world.store.read((tx) => tx.tasks.get(id)), 'it is stored');
	const deps = () => ({ ...world.app, appendAudit: world.appendAudit });
	const audited = async (action: string) => {
		const rows = await world.store.read((tx) => tx.audit.listUnchained(1000));
		return rows.filter((row) => row.action === action).length;
	};
	const record = (leased: Leased, facts: readonly Fact[], epoch = 0) =>
		recordFacts(deps(), ctx, { nodeId: leased.identity.nodeId, epoch }, facts);
	const numbered = (facts: readonly Fact[], from = 1) =>
		facts.map((fact, index) => ({ ...fact, seq: BigInt(from + index) }));

	/** A task that was claimed, signed and sent. */
	async function lease(identity?: StoredIdentity): Promise<Leased> {
		const owner = identity ?? (await world.enroll());
		await world.store.unit((tx) => tx.tasks.insert(taskRow(owner.nodeId, create(TaskSpecSchema, run('/bin/true')))));
		const claimed = await claimQueued(world.store, owner.nodeId, 1, systemClock.now() + 60_000);
		const task = present(claimed[0], 'it was queued');
		const signed = await signEnvelope(world.app, task, 1, systemClock.now());
		await world.store.unit((tx) => tx.tasks.putDocuments(signed));
		const { payload } = fromBinary(DsseEnvelopeSchema, signed.envelope);
		const row: AttemptRow = {
			taskId: task.id,
			attempt: task.attempt,
			fencingToken: BigInt(task.fencingToken),
			phase: 'started',
			envelope: payload,
			envelopeSha256: sha256(payload),
			acceptedAtMs: systemClock.now(),
			bootId: 'boot',
			cancelReason: '',
			outputStored: false,
		};
		return { identity: owner, task, row };
	}

	function finish(
		{ identity, row }: Leased,
		by: Pick<StoredIdentity, 'nodeId' | 'generation' | 'sign'> = identity,
	): Fact {
		const outcome = create(TaskOutcomeSchema, {
			result: TaskResult.SUCCEEDED,
			exitCode: 0,
			outputSha256: outputSha256OfChunks([]),
			startedAt: timestampFromMs(systemClock.now()),
			endedAt: timestampFromMs(systemClock.now()),
		});
		const context = { nowMs: systemClock.now(), correlationId: 'c' };
		return finishedFact(context, row, { outcome, output: [] }, { identity: by, agentVersion: '1', bootId: 'boot' });
	}

	const tampered = (fact: Fact, change: (finished: TaskFinished) => void): Fact => {
		const copy = fromBinary(FactSchema, new Uint8Array());
		Object.assign(copy, structuredClone(fact));
		if (copy.fact.case === 'taskFinished') change(copy.fact.value);
		return copy;
	};
	const context = { nowMs: systemClock.now(), correlationId: 'c' };

	it('commits a batch once, and answers repetitions with what is committed', async () => {
		const leased = await lease();
		const facts = numbered([
			acceptedFact(context, leased.row),
			startedFact(context, leased.row, undefined),
			auditFact(context, 'test.once', ''),
			finish(leased),
		]);
		expect(await record(leased, facts.slice(0, 2))).toBe(2n);
		expect(await taskNow(leased.task.id)).toMatchObject({ state: 'running' });
		expect(await record(leased, facts)).toBe(4n);
		const ended = await taskNow(leased.task.id);
		expect(ended).toMatchObject({ state: 'succeeded', exitCode: 0, outputComplete: true });
		expect(await record(leased, facts)).toBe(4n);
		expect(await taskNow(leased.task.id)).toEqual(ended);
		expect(await audited('agent.test.once')).toBe(1);
	});

	it('lets the facts of one session fail alone among those that are committed together', async () => {
		const [good, stale, forged, alsoGood] = [await lease(), await lease(), await lease(), await lease()];
		const finishOf = (leased: Leased) =>
			numbered([acceptedFact(context, leased.row), startedFact(context, leased.row, undefined), finish(leased)]);
		const notOurs = numbered([finish(forged, good.identity)]);
		const threads = { ...deps(), verifySignatures: verifyDsseOnThread };
		const recorded = (leased: Leased, facts: readonly Fact[], epoch = 0) =>
			recordFacts(threads, ctx, { nodeId: leased.identity.nodeId, epoch }, facts);
		const settled = await Promise.allSettled([
			recorded(good, finishOf(good)),
			recorded(stale, finishOf(stale), 7),
			recorded(forged, notOurs),
			recorded(alsoGood, finishOf(alsoGood)),
		]);
		expect(settled).toMatchObject([
			{ status: 'fulfilled', value: 3n },
			{ status: 'rejected', reason: { reason: 'SESSION_SUPERSEDED' } },
			{ status: 'fulfilled', value: 1n },
			{ status: 'fulfilled', value: 3n },
		]);
		for (const { task } of [good, alsoGood]) expect(await taskNow(task.id)).toMatchObject({ state: 'succeeded' });
		expect(await taskNow(stale.task.id)).toMatchObject({ state: 'leased' });
		expect(await taskNow(forged.task.id)).toMatchObject({ state: 'lost', reason: 'RECEIPT_INVALID' });
	});

	it('records so many facts of an agent about itself, counts the rest, and says so once', async () => {
		const { nodeId } = await world.enroll();
		const other = await world.enroll();
		const agentAudit = new AgentAuditLimit(systemClock, { burst: 5, perSecond: 0.001 });
		const recordOf = (id: string, from: number, count: number) =>
			recordFacts({ ...deps(), agentAudit }, ctx, { nodeId: id, epoch: 0 }, numbered(auditFacts(count), from));
		const of = async (id: string, action: string) => {
			const rows = await world.store.read((tx) => tx.audit.listUnchained(1000));
			return rows.filter((row) => row.action === action && row.target === `nodes/${id}`).length;
		};
		// A unit that fails takes nothing away: its facts come again.
		for (let count = 0; count < 3; count += 1)
			await expect(
				recordFacts({ ...deps(), agentAudit }, ctx, { nodeId, epoch: 9 }, numbered(auditFacts(12))),
			).rejects.toMatchObject({ reason: 'SESSION_SUPERSEDED' });
		expect(await recordOf(nodeId, 1, 12)).toBe(12n);
		expect(await recordOf(nodeId, 13, 12)).toBe(24n);
		expect(await of(nodeId, 'agent.test.happened')).toBe(5);
		expect(await of(nodeId, 'agent.audit_suppressed')).toBe(1);
		await recordOf(other.nodeId, 1, 3);
		expect(await of(other.nodeId, 'agent.test.happened')).toBe(3);
		expect(await of(other.nodeId, 'agent.audit_suppressed')).toBe(0);
	});

	it('takes nothing from a session that was replaced', async () => {
		const leased = await lease();
		await world.store.unit((tx) => tx.nodes.nextEpoch(leased.identity.nodeId));
		await expect(record(leased, numbered([finish(leased)]), 0)).rejects.toMatchObject({ reason: 'SESSION_SUPERSEDED' });
		expect(await taskNow(leased.task.id)).toMatchObject({ state: 'leased' });
		expect(await record(leased, numbered([finish(leased)]), 1)).toBe(1n);
	});

	it('believes a certificate that was superseded since', async () => {
		const leased = await lease();
		const { serial } = leased.identity.credential();
		await world.store.unit((tx) => tx.certificates.update(serial, { state: 'superseded' }));
		await record(leased, numbered([finish(leased)]));
		expect(await taskNow(leased.task.id)).toMatchObject({ state: 'succeeded' });
	});

	it.each<[string, (leased: Leased) => Promise<Fact> | Fact]>([
		['signed by another node', async (leased) => finish(leased, await world.enroll())],
		[
			'signed by another node in the name of this one',
			async (leased) => {
				const other = await world.enroll();
				const { nodeId, generation } = leased.identity;
				return finish(leased, { nodeId, generation, sign: (bytes) => other.sign(bytes) });
			},
		],
		['signed with a key that the certificate does not have', (leased) => finish(leased, wrongKey(leased))],
		['signed with a certificate of its own that has the serial of ours', (leased) => finish(leased, ownKey(leased))],
		[
			'about another attempt than it says',
			(leased) => finish({ ...leased, row: { ...leased.row, attempt: 1, envelopeSha256: new Uint8Array(32) } }),
		],
		[
			'with a changed payload',
			(leased) =>
				tampered(finish(leased), ({ receipt }) => {
					const last = (receipt?.payload.length ?? 0) - 1;
					if (receipt) receipt.payload[last] = (receipt.payload[last] ?? 0) ^ 1;
				}),
		],
		['without a receipt', (leased) => tampered(finish(leased), (finished) => void delete finished.receipt)],
		[
			'with output that was not signed',
			(leased) =>
				tampered(finish(leased), (finished) => {
					finished.output = [
						create(OutputChunkSchema, { stream: OutputStream.STDOUT, data: new TextEncoder().encode('a lie') }),
					];
				}),
		],
		[
			'after its certificate ended',
			(leased) => ({ ...finish(leased), at: timestampFromMs(systemClock.now() + 30 * 86_400_000) }),
		],
		[
			'with a revoked certificate',
			async (leased) => {
				const { serial } = leased.identity.credential();
				await world.store.unit((tx) =>
					tx.certificates.update(serial, { state: 'revoked', revokedAtMs: systemClock.now(), revocationReason: 'x' }),
				);
				return finish(leased);
			},
		],
	])('loses a task whose receipt is %s, audits it, and goes on', async (_, forge) => {
		const leased = await lease();
		const before = await audited('tasks.receipt');
		expect(await record(leased, numbered([await forge(leased)]))).toBe(1n);
		expect(await taskNow(leased.task.id)).toMatchObject({ state: 'lost', reason: 'RECEIPT_INVALID' });
		expect(await audited('tasks.receipt')).toBe(before + 1);
		expect(await world.output.read(leased.task.id, 1)).toEqual([]);
	});

	it('lets the true receipt replace a task that a false one lost', async () => {
		const leased = await lease();
		const forged = tampered(finish(leased), (finished) => void delete finished.receipt);
		await record(leased, numbered([forged]));
		await record(leased, numbered([finish(leased)], 2));
		expect(await taskNow(leased.task.id)).toMatchObject({ state: 'succeeded' });
	});

	it('does nothing to tasks of other nodes, to older attempts, and under other tokens', async () => {
		const mine = await lease();
		const theirs = await lease();
		const asMine = { ...theirs, identity: mine.identity };
		const stale = { ...mine, row: { ...mine.row, fencingToken: mine.row.fencingToken + 1n } };
		await record(mine, numbered([finish(asMine), startedFact(context, theirs.row, undefined), finish(stale)]));
		expect(await taskNow(theirs.task.id)).toEqual(theirs.task);
		expect(await taskNow(mine.task.id)).toMatchObject({ state: 'leased' });
	});

	it('stamps the custody of the moment', async () => {
		const leased = await lease();
		await world.store.unit((tx) => tx.nodes.update(leased.identity.nodeId, { custody: 'tenant' }));
		await record(leased, numbered([finish(leased)]));
		expect(await taskNow(leased.task.id)).toMatchObject({ state: 'succeeded', custody: 'tenant' });
	});

	it('opens uploads for the newest attempt of the own node only, and closes them when all is there', async () => {
		const leased = await lease();
		const other = await world.enroll();
		const { taskId, attempt, fencingToken } = leased.row;
		const hello = create(OutputHelloSchema, { taskId, attempt, fencingToken });
		const { nodeId } = leased.identity;
		await expect(openUpload(world.app, ctx, other.nodeId, hello)).rejects.toMatchObject({ reason: 'TASK_NOT_FOUND' });
		for (const change of [{ attempt: 2 }, { fencingToken: 99n }])
			await expect(openUpload(world.app, ctx, nodeId, { ...hello, ...change })).rejects.toMatchObject({
				reason: 'TASK_ENDED',
			});
		const upload = await openUpload(world.app, ctx, nodeId, hello);
		const data = new TextEncoder().encode('hello');
		await upload.append([{ offset: 0, stream: 'stdout', data, droppedBytes: 0 }]);
		expect(await upload.sync()).toBe(5n);
		expect(await upload.end(6n)).toBe(false);
		expect(await upload.end(5n)).toBe(true);
		expect(await taskNow(taskId)).toMatchObject({ outputComplete: true });
		expect(await openUpload(world.app, ctx, nodeId, hello)).toMatchObject({ complete: true, storedOffset: 5n });
	});
});
