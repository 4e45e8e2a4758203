import { afterAll, beforeAll, expect, test } from 'vitest';
import {
	CertificateKind,
	CertificateService,
	RotationPhase,
} from '../../proto/gen/gpuaas/certificates/v1/certificates_pb.ts';
import { OperationService, OperationState } from '../../proto/gen/gpuaas/operations/v1/operations_pb.ts';
import { ApiWorld } from './api-world.ts';

/** Lists that nothing else reads over the wire. */
let world: ApiWorld;

beforeAll(async () => {
	world = await ApiWorld.start();
});

afterAll(async () => {
	await world[Symbol.asyncDispose]();
});

test('listCertificates pages through what was issued', async () => {
	const client = world.client(CertificateService, world.operatorKey);
	const first = await client.listCertificates({ pageSize: 1 });
	const second = await client.listCertificates({ pageSize: 1, pageToken: first.nextPageToken });
	const kinds = [...first.certificates, ...second.certificates].map(({ kind }) => kind).sort();
	expect(kinds).toEqual([CertificateKind.REPLICA, CertificateKind.TASK_SIGNING]);
	await expect(client.listCertificates({ pageSize: 2, pageToken: `x${first.nextPageToken}` })).rejects.toThrow(
		/page token/i,
	);
});

test('getCertificateAuthority shows keys with their custody, and nobody to wait for', async () => {
	const { authority } = await world.client(CertificateService, world.operatorKey).getCertificateAuthority({});
	expect(authority).toMatchObject({ phase: RotationPhase.STANDBY, laggards: [], trustDomain: 'test.gpuaas.example' });
	expect(authority?.keys.map(({ purpose }) => purpose)).toEqual(
		expect.arrayContaining(['root', 'issuing', 'replica', 'audit']),
	);
	for (const { custody } of authority?.keys ?? []) expect(custody).toBe('software');
});

test('listOperations is newest first and pages', async () => {
	const nowMs = world.deps.clock.now();
	for (const id of ['01a00000-0000-7000-8000-000000000001', '01a00000-0000-7000-8000-000000000002']) {
		await world.deps.store.unit((tx) =>
			tx.operations.insert({
				id,
				kind: 'nodes.drain',
				state: 'running',
				target: 'node',
				progress: '',
				reason: '',
				createdBy: 'me',
				createdAtMs: nowMs,
				deadlineMs: nowMs + 1000,
				endedAtMs: null,
				data: '{}',
			}),
		);
	}
	const client = world.client(OperationService, world.operatorKey);
	const first = await client.listOperations({ pageSize: 1 });
	expect(first.operations).toMatchObject([
		{ id: '01a00000-0000-7000-8000-000000000002', state: OperationState.RUNNING },
	]);
	const second = await client.listOperations({ pageSize: 1, pageToken: first.nextPageToken });
	expect(second.operations).toMatchObject([{ id: '01a00000-0000-7000-8000-000000000001' }]);
});
