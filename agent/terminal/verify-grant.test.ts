import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { beforeAll, describe, expect, test } from 'vitest';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { issueTestLeaf, makeTestPki, TEST_NOW_MS, type TestPki } from '../../pki/ca/test-pki.ts';
import { generateSigner } from '../../pki/keys/signer.ts';
import { signDsseSync } from '../../pki/verify/dsse.ts';
import { CHANNEL_GRANT_TYPE } from '../../pki/verify/task.ts';
import { ChannelGrantSchema, type ChannelOpen } from '../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import { type GrantExpectation, verifyGrant } from './verify-grant.ts';

/** Of an order to open a terminal: who signed it, for which node and image, and for how long. */
const NODE = uuidv7(TEST_NOW_MS, systemRng);
const CHANNEL = uuidv7(TEST_NOW_MS, systemRng);
const HOUR = 3_600_000;
const signer = generateSigner('ed25519');
let pki: TestPki;
let expected: GrantExpectation;
beforeAll(async () => {
	pki = await makeTestPki();
	const { certificateDer } = await issueTestLeaf(pki, { kind: 'task-signer', id: 'tasks-1' }, signer);
	expected = {
		nodeId: NODE,
		generation: 2,
		trustDomain: pki.trustDomain,
		taskSigners: [certificateDer],
		nowMs: TEST_NOW_MS,
	};
});

type Grant = MessageInitShape<typeof ChannelGrantSchema>;

function order(more: Grant = {}, type = CHANNEL_GRANT_TYPE, key = signer): ChannelOpen['grant'] {
	const grant = create(ChannelGrantSchema, {
		channelId: CHANNEL,
		nodeId: NODE,
		generation: 2,
		notBefore: timestampFromMs(TEST_NOW_MS),
		notAfter: timestampFromMs(TEST_NOW_MS + 60_000),
		spec: { kind: { case: 'shell', value: {} } },
		createdBy: 'ada',
		...more,
	} as Grant);
	return signDsseSync(type, toBinary(ChannelGrantSchema, grant), key) as ChannelOpen['grant'];
}

describe('an order to open a terminal', () => {
	test('that is signed for this node, its image and now is one', () => {
		expect(verifyGrant(order(), expected)).toMatchObject({ kind: 'ok', grant: { createdBy: 'ada' } });
	});

	test.each<readonly [what: string, more: Grant, reason: string]>([
		['another node', { nodeId: uuidv7(TEST_NOW_MS, systemRng) }, 'ENVELOPE_ADDRESSEE'],
		['an older image', { generation: 1 }, 'ENVELOPE_GENERATION'],
		['a newer image', { generation: 3 }, 'ENVELOPE_GENERATION'],
		[
			'a time that is over',
			{ notBefore: timestampFromMs(TEST_NOW_MS - 2 * HOUR), notAfter: timestampFromMs(TEST_NOW_MS - HOUR) },
			'ENVELOPE_STALE',
		],
		[
			'a time to come',
			{ notBefore: timestampFromMs(TEST_NOW_MS + HOUR), notAfter: timestampFromMs(TEST_NOW_MS + HOUR + 60_000) },
			'ENVELOPE_STALE',
		],
		['nothing that is opened', { spec: {} }, 'ENVELOPE_MALFORMED'],
		[
			'a window of no size',
			{ spec: { kind: { case: 'shell', value: { size: { columns: 0, rows: 24 } } } } },
			'ENVELOPE_MALFORMED',
		],
	])('that is for %s is refused', (_, more, reason) => {
		expect(verifyGrant(order(more), expected)).toMatchObject({ kind: 'refused', reason, channelId: CHANNEL });
	});

	test('that another key signed, or that was signed as something else, is refused', () => {
		for (const other of [order({}, CHANNEL_GRANT_TYPE, generateSigner('ed25519')), order({}, 'application/x-task')])
			expect(verifyGrant(other, expected)).toMatchObject({ kind: 'refused', reason: 'ENVELOPE_SIGNATURE' });
		const [tampered, whole] = [order(), order({ createdBy: 'eve' })];
		if (tampered !== undefined && whole !== undefined) tampered.payload = whole.payload;
		expect(verifyGrant(tampered, expected)).toMatchObject({ kind: 'refused', reason: 'ENVELOPE_SIGNATURE' });
		expect(verifyGrant(order(), { ...expected, taskSigners: [] })).toMatchObject({ reason: 'ENVELOPE_SIGNATURE' });
	});

	test('that is none is refused', () => {
		expect(verifyGrant(undefined, expected)).toMatchObject({ kind: 'refused', reason: 'ENVELOPE_MALFORMED' });
	});
});
