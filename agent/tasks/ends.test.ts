import { create, fromBinary } from '@bufbuild/protobuf';
import { beforeEach, expect, it } from 'vitest';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import type { Fact } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import {
	TaskResult as Result,
	TaskEnvelopeSchema,
	TaskReceiptSchema,
} from '../../proto/gen/gpuaas/link/v1/task_documents_pb.ts';
import type { AttemptRow } from '../journal/journal.ts';
import { MemoryJournal } from '../journal/memory.ts';
import { Attempt } from './attempt.ts';
import { Ends } from './ends.ts';
import { outcomeWithoutHost } from './outcome.ts';
import { OutputShelf } from './output-shelf.ts';
import type { Decision } from './permit.ts';
import type { RunnerDeps } from './runner-deps.ts';
import { WriteBehind } from './write-behind.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const TASK = '0198a1b2-0000-7000-8000-000000000001';
const ROW: AttemptRow = {
	taskId: TASK,
	attempt: 1,
	fencingToken: 5n,
	phase: 'started',
	envelope: new Uint8Array(),
	envelopeSha256: new Uint8Array([1, 2, 3]),
	acceptedAtMs: 0,
	bootId: 'boot-1',
	cancelReason: '',
	outputStored: false,
};
const DECISION: Decision = {
	kind: 'permit',
	permit: { kind: 'run', argv: ['/bin/true'], user: 'bob', cwd: '', env: {}, limits: {} },
	timeoutMs: 1000,
	outputBytesMax: 4096,
};

let clock: VirtualClock;
let journal: MemoryJournal;
let ends: Ends;
let attempt: Attempt;
let certificate: { serial: number; notAfterMs: number };
let changed: () => void;

beforeEach(() => {
	clock = new VirtualClock();
	journal = new MemoryJournal();
	journal.putAttempt(ROW);
	certificate = { serial: 1, notAfterMs: clock.now() + HOUR };
	const identity = {
		nodeId: 'node-1',
		generation: 1,
		credential: () => certificate,
		onChange: (listener: () => void) => {
			changed = listener;
		},
		sign: () => ({ keyId: 'k', signature: new Uint8Array([9]), certificate: new Uint8Array([certificate.serial]) }),
	};
	const platform = { agentVersion: 'test', bootId: 'boot-1' };
	const deps = { clock, journal, identity, platform, log: silentLogger } as unknown as RunnerDeps;
	const writes = new WriteBehind(clock, journal, silentLogger, () => false);
	const { signal } = new AbortController();
	attempt = new Attempt(ROW, create(TaskEnvelopeSchema, { correlationId: 'c' }), DECISION, silentLogger);
	const shelf = new OutputShelf(journal, writes, () => attempt, signal);
	ends = new Ends(deps, { writes, shelf, signal }, () => {});
});

function write(message: string): void {
	const outcome = outcomeWithoutHost({ result: Result.SUCCEEDED, reason: '', message, endedAtMs: clock.now() });
	ends.write(attempt, { outcome, output: [] });
	clock.advance(0);
}

const receipts = () =>
	journal.listFacts(0n, 10).flatMap(({ fact }: Fact) => {
		if (fact.case !== 'taskFinished') return [];
		const { outcome } = fromBinary(TaskReceiptSchema, fact.value.receipt?.payload ?? new Uint8Array());
		return [{ message: outcome?.message, certificate: [...fact.value.certificate] }];
	});

it('signs one receipt of an attempt, in the commit that closes it, whatever else comes of it', () => {
	write('first');
	expect(journal.getAttempt(TASK, 1)).toMatchObject({ phase: 'finished', outputStored: true });
	write('second');
	ends.refuse(attempt, { reason: 'CANCELLED', message: '', retryable: false });
	clock.advance(0);
	expect(receipts()).toEqual([{ message: 'first', certificate: [1] }]);
	expect(journal.listFacts(0n, 10)).toHaveLength(1);
});

it('waits for a certificate that is valid, and signs with that one, once', () => {
	clock.advance(HOUR);
	write('late');
	expect(receipts()).toEqual([]);
	expect(journal.getAttempt(TASK, 1)).toMatchObject({ phase: 'started' });
	// Of the trust bundle, say: the certificate is as it was.
	changed();
	clock.advance(0);
	expect(receipts()).toEqual([]);
	certificate = { serial: 2, notAfterMs: clock.now() + HOUR };
	changed();
	changed();
	clock.advance(0);
	expect(receipts()).toEqual([{ message: 'late', certificate: [2] }]);
});

it('signs within a minute once a clock that was ahead is right again', () => {
	const { notAfterMs } = certificate;
	certificate = { ...certificate, notAfterMs: clock.now() - 1 };
	write('ahead');
	clock.advance(2 * MINUTE);
	expect(receipts()).toEqual([]);
	// Of the same certificate, which nobody says anything about: the clock was set, not the identity.
	certificate = { ...certificate, notAfterMs };
	clock.advance(MINUTE);
	expect(receipts()).toEqual([{ message: 'ahead', certificate: [1] }]);
	clock.advance(2 * MINUTE);
	expect([receipts().length, clock.pending]).toEqual([1, 0]);
});
