import { create, toBinary } from '@bufbuild/protobuf';
import { durationFromMs, timestampFromMs } from '@bufbuild/protobuf/wkt';
import { expect, test } from 'vitest';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { issueTestLeaf, makeTestPki, TEST_NOW_MS } from '../../pki/ca/test-pki.ts';
import { generateSigner, type KeyObjectSigner } from '../../pki/keys/signer.ts';
import { signDsseSync } from '../../pki/verify/dsse.ts';
import { TASK_ENVELOPE_TYPE } from '../../pki/verify/task.ts';
import { DsseEnvelopeSchema } from '../../proto/gen/gpuaas/common/v1/types_pb.ts';
import { TaskOfferSchema } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { TaskEnvelopeSchema } from '../../proto/gen/gpuaas/link/v1/task_documents_pb.ts';
import { MemoryJournal } from '../journal/memory.ts';
import { Intake } from './intake.ts';
import { parsePolicy } from './policy.ts';
import type { RunnerDeps } from './runner-deps.ts';

const NODE = uuidv7(TEST_NOW_MS, systemRng);
const TASK = uuidv7(TEST_NOW_MS, systemRng);

async function start() {
	const pki = await makeTestPki();
	const signer = generateSigner('ed25519');
	const { certificateDer } = await issueTestLeaf(pki, { kind: 'task-signer', id: 'tasks-1' }, signer);
	const journal = new MemoryJournal();
	const deps = {
		identity: {
			nodeId: NODE,
			generation: 2,
			trustDomain: pki.trustDomain,
			bundle: () => ({ taskSigners: [certificateDer] }),
		},
		journal,
		clock: { now: () => TEST_NOW_MS },
		log: silentLogger,
		platform: { bootId: 'boot', agentVersion: 'test' },
		policy: parsePolicy('', 'agent.policy.toml'),
		limits: { attemptsMax: 10 },
	} as unknown as RunnerDeps;
	const intake = new Intake(
		deps,
		() => 0,
		(change) => change(),
	);
	intake.setFloor(0n);
	const take = (attempt: number, by: KeyObjectSigner) => {
		const envelope = create(TaskEnvelopeSchema, {
			taskId: TASK,
			nodeId: NODE,
			generation: 2,
			attempt,
			fencingToken: BigInt(attempt),
			notBefore: timestampFromMs(TEST_NOW_MS),
			notAfter: timestampFromMs(TEST_NOW_MS + 3_600_000),
			spec: { kind: { case: 'run', value: { argv: ['/bin/true'] } } },
			timeout: durationFromMs(1000),
		});
		const signed = signDsseSync(TASK_ENVELOPE_TYPE, toBinary(TaskEnvelopeSchema, envelope), by);
		intake.take(create(TaskOfferSchema, { envelope: create(DsseEnvelopeSchema, signed) }), '');
		intake.commit();
	};
	const reasons = () =>
		journal.listFacts(0n, 10).map(({ fact }) => (fact.case === 'taskRefused' ? fact.value.reason : fact.case));
	return { signer, take, reasons };
}

test('a forged attempt stays refused, and keeps no true one of its task from being judged for itself', async () => {
	const { signer, take, reasons } = await start();
	const thief = generateSigner('ed25519');
	take(4_294_967_295, thief);
	take(1, thief);
	// Refused is refused: the control plane acts on that.
	take(1, signer);
	expect(reasons()).toEqual(['ENVELOPE_SIGNATURE', 'ENVELOPE_SIGNATURE']);
	// This node allows nothing; the number of the forgery is not held against it.
	take(2, signer);
	expect(reasons().slice(2)).toEqual(['POLICY_KIND']);
});
