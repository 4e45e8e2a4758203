import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { durationFromMs, timestampFromMs } from '@bufbuild/protobuf/wkt';
import { beforeAll, describe, expect, it } from 'vitest';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { issueTestLeaf, makeTestPki, TEST_NOW_MS, type TestPki } from '../../pki/ca/test-pki.ts';
import { generateSigner, type KeyObjectSigner } from '../../pki/keys/signer.ts';
import { type SignedDsse, signDsseSync } from '../../pki/verify/dsse.ts';
import { TASK_CLOSING_TYPE, TASK_ENVELOPE_TYPE } from '../../pki/verify/task.ts';
import { TaskEnvelopeSchema } from '../../proto/gen/gpuaas/link/v1/task_documents_pb.ts';
import type { AttemptRow } from '../journal/journal.ts';
import { MemoryJournal } from '../journal/memory.ts';
import { replayRow } from '../journal/rows.ts';
import { type EnvelopeExpectation, verifyEnvelope } from './verify-envelope.ts';

const NODE = uuidv7(TEST_NOW_MS, systemRng);
const TASK = uuidv7(TEST_NOW_MS, systemRng);
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

let pki: TestPki;
const signer = generateSigner('ed25519');
let certificate: Uint8Array;
beforeAll(async () => {
	pki = await makeTestPki();
	certificate = (await issueTestLeaf(pki, { kind: 'task-signer', id: 'tasks-1' }, signer)).certificateDer;
});

type Change = Extract<MessageInitShape<typeof TaskEnvelopeSchema>, { readonly $typeName?: never }>;

function payload(change: Change = {}): Uint8Array {
	return toBinary(
		TaskEnvelopeSchema,
		create(TaskEnvelopeSchema, {
			taskId: TASK,
			nodeId: NODE,
			generation: 2,
			attempt: 1,
			fencingToken: 5n,
			notBefore: timestampFromMs(TEST_NOW_MS),
			notAfter: timestampFromMs(TEST_NOW_MS + HOUR),
			spec: { kind: { case: 'run', value: { argv: ['/bin/true'] } } },
			timeout: durationFromMs(1000),
			...change,
		}),
	);
}

function sign(bytes = payload(), by: KeyObjectSigner = signer, type = TASK_ENVELOPE_TYPE): SignedDsse {
	return signDsseSync(type, bytes, by);
}

function verify(dsse: SignedDsse | undefined, change: Partial<EnvelopeExpectation> = {}, rows: AttemptRow[] = []) {
	const journal = new MemoryJournal();
	for (const row of rows) journal.putAttempt(row);
	return verifyEnvelope(dsse, {
		nodeId: NODE,
		generation: 2,
		trustDomain: pki.trustDomain,
		taskSigners: [certificate],
		nowMs: TEST_NOW_MS,
		journal,
		...change,
	});
}

const seen = (attempt: number, token: bigint) => replayRow(TASK, attempt, token, TEST_NOW_MS);

describe('verifyEnvelope', () => {
	it('takes an order of an accepted signer for this node, once', () => {
		expect(verify(sign())).toMatchObject({ kind: 'ok', envelope: { taskId: TASK, fencingToken: 5n } });
		expect(verify(sign(), {}, [seen(1, 5n)])).toMatchObject({ kind: 'duplicate', row: { attempt: 1 } });
	});

	it('takes a duplicate as one also when it is old: it was judged when it was fresh', () => {
		expect(verify(sign(), { nowMs: TEST_NOW_MS + 9 * HOUR }, [seen(1, 5n)])).toMatchObject({ kind: 'duplicate' });
	});

	it('refuses signatures that are not of an accepted task signer', async () => {
		const stranger = generateSigner('ed25519');
		expect(verify(sign(payload(), stranger))).toMatchObject({
			reason: 'ENVELOPE_SIGNATURE',
			claimed: { taskId: TASK },
		});
		const tampered = { ...sign(), payload: payload({ fencingToken: 6n }) };
		expect(verify(tampered)).toMatchObject({ reason: 'ENVELOPE_SIGNATURE' });
		expect(verify(sign(payload(), signer, TASK_CLOSING_TYPE))).toMatchObject({ reason: 'ENVELOPE_SIGNATURE' });
		const { certificateDer } = await issueTestLeaf(
			pki,
			{ kind: 'node', id: NODE },
			generateSigner('ecdsa-p256-sha256'),
		);
		expect(verify(sign(), { taskSigners: [certificateDer] })).toMatchObject({ reason: 'ENVELOPE_SIGNATURE' });
		expect(verify(sign(), { taskSigners: [] })).toMatchObject({ reason: 'ENVELOPE_SIGNATURE' });
		expect(verify(sign(), { nowMs: TEST_NOW_MS + 31 * 24 * HOUR })).toMatchObject({ reason: 'ENVELOPE_SIGNATURE' });
		expect(verify(sign(), { trustDomain: 'other.test' })).toMatchObject({ reason: 'ENVELOPE_SIGNATURE' });
	});

	it('refuses a node that signs with its own key, even one that the bundle would name', async () => {
		const key = generateSigner('ecdsa-p256-sha256');
		const { certificateDer } = await issueTestLeaf(pki, { kind: 'node', id: NODE }, key);
		expect(verify(sign(payload(), key), { taskSigners: [certificateDer] })).toMatchObject({
			reason: 'ENVELOPE_SIGNATURE',
		});
	});

	it.each([
		['another node', { nodeId: uuidv7(TEST_NOW_MS, systemRng) }, 'ENVELOPE_ADDRESSEE'],
		['an older image', { generation: 1 }, 'ENVELOPE_GENERATION'],
		['a newer image', { generation: 3 }, 'ENVELOPE_GENERATION'],
		[
			'an envelope that expired',
			{ notAfter: timestampFromMs(TEST_NOW_MS - 6 * MINUTE), notBefore: timestampFromMs(TEST_NOW_MS - HOUR) },
			'ENVELOPE_STALE',
		],
		['one of the future', { notBefore: timestampFromMs(TEST_NOW_MS + 6 * MINUTE) }, 'ENVELOPE_STALE'],
		['one that lives too long', { notAfter: timestampFromMs(TEST_NOW_MS + 7 * HOUR) }, 'ENVELOPE_STALE'],
		['no program', { spec: { kind: { case: 'run' as const, value: { argv: [] } } } }, 'ENVELOPE_MALFORMED'],
		['no kind', { spec: {} }, 'ENVELOPE_MALFORMED'],
		[
			'a NUL byte',
			{ spec: { kind: { case: 'run' as const, value: { argv: ['/bin/echo', 'a\0b'] } } } },
			'ENVELOPE_MALFORMED',
		],
		[
			'a bad variable',
			{ spec: { kind: { case: 'run' as const, value: { argv: ['x'], env: { 'A=B': '' } } } } },
			'ENVELOPE_MALFORMED',
		],
		['a timeout of nothing', { timeout: durationFromMs(0) }, 'ENVELOPE_MALFORMED'],
		['a token beyond 63 bits', { fencingToken: 2n ** 63n }, 'ENVELOPE_MALFORMED'],
	] as [string, Change, string][])('refuses %s', (_, change, reason) => {
		expect(verify(sign(payload(change)))).toMatchObject({ kind: 'refused', reason, claimed: { taskId: TASK } });
	});

	it('allows for clocks that differ by less than five minutes', () => {
		expect(verify(sign(), { nowMs: TEST_NOW_MS - 4 * MINUTE })).toMatchObject({ kind: 'ok' });
		expect(verify(sign(), { nowMs: TEST_NOW_MS + HOUR + 4 * MINUTE })).toMatchObject({ kind: 'ok' });
	});

	it('refuses what is not above the last attempt and token of the task', () => {
		expect(verify(sign(), {}, [seen(2, 4n)])).toMatchObject({ reason: 'ENVELOPE_REPLAYED' });
		expect(verify(sign(payload({ attempt: 2 })), {}, [seen(1, 5n)])).toMatchObject({ reason: 'ENVELOPE_REPLAYED' });
		expect(verify(sign(payload({ attempt: 2, fencingToken: 6n })), {}, [seen(1, 5n)])).toMatchObject({ kind: 'ok' });
	});

	it('names nothing of what it could not read', () => {
		expect(verify(undefined)).toMatchObject({ reason: 'ENVELOPE_MALFORMED', claimed: undefined });
		expect(verify(sign(new Uint8Array([1, 2, 3])))).toMatchObject({ reason: 'ENVELOPE_MALFORMED', claimed: undefined });
		const text = Buffer.from(payload());
		// Field 1, length 36: the first byte of the id becomes one that UTF-8 has not.
		text[2] = 0xff;
		expect(verify(sign(new Uint8Array(text)))).toMatchObject({ reason: 'ENVELOPE_MALFORMED', claimed: undefined });
	});
});
