import { create, fromBinary } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CertificateAuthority } from '../../control-plane/app/certificates/certificate-authority.ts';
import { offerQueued, resend } from '../../control-plane/app/tasks/offer.ts';
import { stopTasks } from '../../control-plane/app/tasks/stop-tasks.ts';
import { systemContext } from '../../control-plane/context.ts';
import { DispatchReconciler } from '../../control-plane/reconcilers/dispatch.ts';
import { ExpiryReconciler } from '../../control-plane/reconcilers/expiry.ts';
import { OutboxReconciler } from '../../control-plane/reconcilers/outbox.ts';
import type { Store } from '../../control-plane/store/port/store.ts';
import type { TaskRow } from '../../control-plane/store/port/tasks.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { silentLogger } from '../../kit/log.ts';
import { verifyDsse } from '../../pki/verify/dsse.ts';
import { VerifyKey } from '../../pki/verify/signature.ts';
import { TASK_CLOSING_TYPE } from '../../pki/verify/task.ts';
import { parseCertificate } from '../../pki/x509/parse.ts';
import { DsseEnvelopeSchema } from '../../proto/gen/gpuaas/common/v1/types_pb.ts';
import { TaskClosingSchema, TaskEnvelopeSchema } from '../../proto/gen/gpuaas/link/v1/task_documents_pb.ts';
import { TaskSpecSchema, TaskState } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { claimQueued } from '../contract/store/claim-queued.ts';
import { startWorld, type World } from './link-world.ts';
import { run, taskRow } from './tasks-world.ts';

const ctx = systemContext('test', systemClock, silentLogger, 'test');

/** The store's own methods, with each unit counted. */
function forwarding(store: Store, onUnit: () => void): Store {
	return {
		dialect: store.dialect,
		unit: (plan, options) => {
			onUnit();
			return store.unit(plan, options);
		},
		read: (plan, options) => store.read(plan, options),
		check: () => store.check(),
		checkIsolation: () => store.checkIsolation(),
		now: () => store.now(),
		[Symbol.asyncDispose]: async () => {},
	};
}

describe('reconcilers of tasks', () => {
	let world: World;
	let nodeId: string;
	beforeAll(async () => {
		world = await startWorld();
		nodeId = (await world.enroll()).nodeId;
	});
	afterAll(() => world[Symbol.asyncDispose]());

	const now = () => systemClock.now();
	const taskNow = async (id: string) => present(await world.store.read((tx) => tx.tasks.get(id)), 'it is stored');
	const insert = async (change: Partial<TaskRow> = {}) => {
		const row = taskRow(nodeId, create(TaskSpecSchema, run('/bin/true')), change);
		await world.store.unit((tx) => tx.tasks.insert(row));
		return row.id;
	};
	const leasedRow = { state: 'leased', attempt: 1, fencingToken: 1 } as const;
	const expire = async () => {
		const resynced: string[] = [];
		const expiry = new ExpiryReconciler(world.app, { periodMs: 3_600_000, resync: (id) => resynced.push(id) });
		await expiry.once();
		await expiry[Symbol.asyncDispose]();
		return resynced;
	};

	it('ends what waited too long, with a closing that the task signer signed', async () => {
		const late = await insert({ queueDeadlineMs: now() - 1 });
		const early = await insert();
		await expire();
		expect(await taskNow(late)).toMatchObject({ state: 'timed_out', reason: 'QUEUE_TIMEOUT', outputComplete: true });
		expect(await taskNow(early)).toMatchObject({ state: 'queued' });
		const documents = await world.store.read((tx) => tx.tasks.getDocuments(late, 0));
		const closing = fromBinary(DsseEnvelopeSchema, present(documents?.closing, 'it was closed'));
		const signer = parseCertificate(present(documents?.signerCertificate, 'its signer is kept'));
		const key = signer.kind === 'ok' ? VerifyKey.parse(signer.certificate.spki) : undefined;
		const verified = verifyDsse(closing, { payloadType: TASK_CLOSING_TYPE, keys: [present(key, 'a key')] });
		expect(verified.kind).toBe('ok');
		expect(fromBinary(TaskClosingSchema, closing.payload)).toMatchObject({ taskId: late, state: TaskState.TIMED_OUT });
	});

	it('never runs what was made in the moment in which its assignment ended, and ends it', async () => {
		const fresh = (await world.enroll()).nodeId;
		const made = taskRow(fresh, create(TaskSpecSchema, run('/bin/true')));
		await world.store.unit((tx) => tx.tasks.insert(made));
		// Its closing was not signed: it came after the look outside the unit.
		await world.store.unit((tx) => stopTasks(tx, [made], [], now()));
		expect(await offerQueued(world.app, ctx, [{ nodeId: fresh, limit: 9 }])).toMatchObject([{ nodeId: fresh }]);
		expect(await taskNow(made.id)).toMatchObject({ state: 'cancelled', reason: 'CANCELLED', attempt: 0 });
		const unseen = taskRow(fresh, create(TaskSpecSchema, run('/bin/true')));
		await world.store.unit((tx) => tx.tasks.insert(unseen));
		await world.store.unit((tx) => stopTasks(tx, [unseen], [], now() - 1));
		await expire();
		expect(await taskNow(unseen.id)).toMatchObject({ state: 'cancelled', reason: 'CANCELLED', attempt: 0 });
	});

	it('keeps an offer that nobody answered until its queue deadline, and then calls it lost', async () => {
		const waiting = await insert({ ...leasedRow, leaseUntilMs: now() - 1 });
		const over = await insert({ ...leasedRow, leaseUntilMs: now() - 1, queueDeadlineMs: now() - 1 });
		const accepted = await insert({
			...leasedRow,
			leaseUntilMs: now() - 1,
			acceptedAtMs: now(),
			queueDeadlineMs: now() - 1,
		});
		await expire();
		expect(await taskNow(waiting)).toMatchObject({ state: 'leased', attempt: 1 });
		expect((await taskNow(waiting)).leaseUntilMs).toBeGreaterThan(now());
		expect(await taskNow(over)).toMatchObject({ state: 'lost', reason: 'LEASE_LOST' });
		expect(await taskNow(accepted)).toMatchObject({ state: 'leased' });
	});

	it('claims no more than asked for, signs what it claimed, and sends the same bytes again', async () => {
		const fresh = (await world.enroll()).nodeId;
		for (let count = 0; count < 3; count += 1)
			await world.store.unit((tx) => tx.tasks.insert(taskRow(fresh, create(TaskSpecSchema, run('/bin/true')))));
		const leased: string[] = [];
		const [claim] = await offerQueued(world.app, ctx, [{ nodeId: fresh, limit: 2 }], (_, ids) => leased.push(...ids));
		expect(claim).toMatchObject({ nodeId: fresh, isFull: true, isSent: false });
		expect(leased).toHaveLength(2);
		const documents = () => Promise.all(leased.map((id) => world.store.read((tx) => tx.tasks.getDocuments(id, 1))));
		const signed = await documents();
		expect(signed.every((each) => each?.envelope != null)).toBe(true);
		const tokens = signed.map((each) => {
			const { payload } = fromBinary(DsseEnvelopeSchema, present(each?.envelope, 'it was signed'));
			return Number(fromBinary(TaskEnvelopeSchema, payload).fencingToken);
		});
		const claimed = await Promise.all(leased.map(taskNow));
		expect(tokens).toEqual(claimed.map(({ fencingToken }) => fencingToken));
		expect(new Set(tokens).size).toBe(2);
		expect(await resend(world.app, fresh)).toMatchObject({ leased: expect.arrayContaining(leased) });
		expect(await documents()).toEqual(signed);
	});

	it('commits claims and envelopes together, so that a crash before the offer leads to the same bytes', async () => {
		const nodes = [(await world.enroll()).nodeId, (await world.enroll()).nodeId];
		for (const node of nodes)
			await world.store.unit((tx) => tx.tasks.insert(taskRow(node, create(TaskSpecSchema, run('/bin/true')))));
		let units = 0;
		const store = forwarding(world.store, () => {
			units += 1;
		});
		const leased: string[] = [];
		const wants = nodes.map((node) => ({ nodeId: node, limit: 10 }));
		await offerQueued({ ...world.app, store }, ctx, wants, (_, ids) => leased.push(...ids));
		expect(leased).toHaveLength(2);
		expect(units).toBe(1);
		for (const id of leased) {
			const documents = await world.store.read((tx) => tx.tasks.getDocuments(id, 1));
			const { payload } = fromBinary(DsseEnvelopeSchema, present(documents?.envelope, 'it was signed'));
			const { fencingToken, attempt } = fromBinary(TaskEnvelopeSchema, payload);
			expect(await taskNow(id)).toMatchObject({ state: 'leased', attempt, fencingToken: Number(fencingToken) });
		}
	});

	it('offers nothing that changed while it was signed, and looks again', async () => {
		const fresh = (await world.enroll()).nodeId;
		const ids: string[] = [];
		for (let count = 0; count < 2; count += 1) {
			const row = taskRow(fresh, create(TaskSpecSchema, run('/bin/true')));
			await world.store.unit((tx) => tx.tasks.insert(row));
			ids.push(row.id);
		}
		const [cancelled = '', kept = ''] = ids;
		let signed = 0;
		const authority: CertificateAuthority = Object.create(world.app.authority, {
			signTaskDocument: {
				value: async (type: string, payload: Uint8Array) => {
					signed += 1;
					if (signed === 1) await world.store.unit((tx) => tx.tasks.update(cancelled, { state: 'cancelled' }));
					if (signed === 3) await world.store.unit((tx) => tx.nodes.update(fresh, { generation: 2 }));
					return await world.app.authority.signTaskDocument(type, payload);
				},
			},
		});
		const wants = [{ nodeId: fresh, limit: 10 }];
		const leased: string[] = [];
		const offer = () => offerQueued({ ...world.app, authority }, ctx, wants, (_, some) => leased.push(...some));
		expect(await offer()).toMatchObject([{ isFull: true }]);
		expect(leased).toEqual([kept]);
		expect(await world.store.read((tx) => tx.tasks.getDocuments(cancelled, 1))).toBeUndefined();
		await world.store.unit((tx) => tx.tasks.update(kept, { state: 'queued' }));
		expect(await offer()).toMatchObject([{ isFull: true }]);
		expect(await taskNow(kept)).toMatchObject({ state: 'queued' });
		expect(await offer()).toMatchObject([{ isFull: false }]);
		expect(await taskNow(kept)).toMatchObject({ state: 'leased' });
	});

	it('signs after a crash what was claimed and not signed', async () => {
		const fresh = (await world.enroll()).nodeId;
		await world.store.unit((tx) => tx.tasks.insert(taskRow(fresh, create(TaskSpecSchema, run('/bin/true')))));
		const [claimed] = await claimQueued(world.store, fresh, 1, now() + 1000);
		await resend(world.app, fresh);
		const { id, attempt } = present(claimed, 'it was queued');
		expect((await world.store.read((tx) => tx.tasks.getDocuments(id, attempt)))?.envelope).toBeDefined();
		expect(await taskNow(id)).toMatchObject({ state: 'leased', attempt: 1, fencingToken: claimed?.fencingToken });
	});

	it('offers to every node, though it fails for one of them', async () => {
		const bad = (await world.enroll()).nodeId;
		const good = (await world.enroll()).nodeId;
		const expected: string[] = [];
		for (const node of [bad, good]) {
			// Claimed and not signed: to be sent again.
			const leased = taskRow(node, create(TaskSpecSchema, run('/bin/true')), leasedRow);
			const queued = taskRow(node, create(TaskSpecSchema, run('/bin/true')));
			for (const row of [leased, queued]) {
				await world.store.unit((tx) => tx.tasks.insert(row));
				if (node === good) expected.push(row.id);
			}
		}
		const authority: CertificateAuthority = Object.create(world.app.authority, {
			signTaskDocument: {
				value: async (type: string, payload: Uint8Array) => {
					if (fromBinary(TaskEnvelopeSchema, payload).nodeId === bad) throw new Error('it can not be signed');
					return await world.app.authority.signTaskDocument(type, payload);
				},
			},
		});
		const offered: string[] = [];
		const sessions: typeof world.app.sessions = Object.create(world.app.sessions, {
			isConnected: { value: (node: string) => node === bad || node === good },
			offer: { value: (_: string, { taskId }: { taskId: string }) => offered.push(taskId) > 0 },
		});
		await using dispatch = new DispatchReconciler({ ...world.app, authority, sessions }, { sweepPeriodMs: 3_600_000 });
		for (const node of [bad, good]) dispatch.onSessionOpen({ nodeId: node });
		await dispatch.idle();
		expect(offered.toSorted()).toEqual(expected.toSorted());
	});

	it('publishes each event of the outbox once', async () => {
		const relay = new OutboxReconciler(world.app, { periodMs: 3_600_000 });
		await relay.once();
		const seen: string[] = [];
		const unsubscribe = world.app.bus.subscribe('test.happened', ({ key }) => seen.push(key));
		const atMs = now();
		await world.store.unit(function* (tx) {
			for (let index = 0; index < 1500; index += 1)
				yield* tx.outbox.append({
					id: `event-${index}`.padEnd(36, '.'),
					topic: 'test.happened',
					key: `${index}`,
					atMs,
				});
		});
		await relay.once();
		await relay.once();
		unsubscribe();
		await relay[Symbol.asyncDispose]();
		expect(new Set(seen).size).toBe(1500);
		expect(seen).toHaveLength(1500);
	});
});
