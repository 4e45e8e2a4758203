import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { MemoryJournal } from '../../agent/journal/memory.ts';
import { SMART } from '../../agent/probe/disk-health.ts';
import { DiskMisses } from '../../agent/probe/disk-misses.ts';
import { Telemetry } from '../../agent/telemetry/telemetry.ts';
import { healthOf, NODE_SUBJECT, verdictOf } from '../../health/engine-fixture.ts';
import { observationOf } from '../../health/fact-kinds.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import type { TelemetryFrame } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { CURRENT_SCHEMA } from '../../proto/telemetry-schema/schemas.ts';
import { eventually } from '../eventually.ts';
import { FakeNvmeReader } from '../fakes/disks/nvme-reader.ts';
import { addDisk } from './disk-host.ts';

const SMART_AT = CURRENT_SCHEMA.disk.findIndex(({ key }) => key === 'smart');

test('an agent with a controller in D sends the other disks, and facts that the policy makes UNKNOWN of, till it answers', async () => {
	const root = mkdtempSync(join(tmpdir(), 'disk-agent-'));
	await using close = new AsyncDisposableStack();
	close.defer(() => rmSync(root, { recursive: true, force: true }));
	const sysRoot = join(root, 'sys');
	for (const device of ['nvme0n1', 'nvme1n1']) addDisk(root, device);
	const nvme = new FakeNvmeReader(join(root, 'nvme'));
	nvme.hang('nvme0');
	nvme.set('nvme1', { wear: 0.5 });
	const journal = new MemoryJournal();
	const frames: TelemetryFrame[] = [];
	mkdirSync(join(root, 'data'));
	writeFileSync(join(root, 'kmsg'), '');
	const start = () =>
		new Telemetry({
			...{ clock: systemClock, rng: systemRng, log: silentLogger, journal, bootId: 'boot-1' },
			...{ nodeId: '0190d7a0-0000-7000-8000-000000000000', dataFolder: join(root, 'data') },
			plan: { periodMs: 500, fastPeriodMs: 0, fastUntilMs: 0 },
			gpu: { mode: 'off', library: '', folder: join(root, 'probe') },
			disks: { folder: join(root, 'disks'), nvmeReader: nvme.command, timeoutMs: 8000 },
			kmsgPath: join(root, 'kmsg'),
			roots: { procRoot: '/proc', sysRoot },
			runningTasks: () => 0,
			readMachine: async () => undefined,
			send: (frame) => frames.push(frame) > 0,
		});
	const smartOf = (id: string) => {
		const row = frames.findLast(({ hasSlow }) => hasSlow)?.disks.find((disk) => disk.id === id);
		return row?.values[SMART_AT];
	};
	const facts = () => journal.listFacts(0n, 1000).flatMap(({ fact }) => (fact.case === 'health' ? [fact.value] : []));
	const verdict = () => {
		const heard = { atMs: 0, custody: 'platform', isInjected: false } as const;
		const sample = {
			kind: 'sample',
			atMs: 0,
			custody: 'platform',
			simulated: false,
			bootId: 'boot-1',
			parts: [],
		} as const;
		return verdictOf(healthOf(...facts().map((fact) => observationOf(fact, heard)), sample), 0, NODE_SUBJECT);
	};
	// It was late once before: the next time it hangs.
	mkdirSync(join(root, 'disks'), { mode: 0o700 });
	new DiskMisses(join(root, 'disks')).add('nvme0', systemClock.now());
	const first = start();
	await eventually(
		'both were asked',
		() => smartOf('SERIAL-nvme0n1') === SMART.hung && smartOf('SERIAL-nvme1n1') === SMART.read,
	);
	await eventually('it is a fact', () => facts().some(({ code }) => code === 'hung'));
	expect(verdict()).toMatchObject({
		...{ state: 'UNKNOWN', schedulable: false, reasons: [{ checkId: 'disk.hung' }] },
		evidence: [{ raw: expect.stringMatching(/^disk SERIAL-nvme0n1: nvme0 has not answered since .*: state D/) }],
	});
	await first[Symbol.asyncDispose]();
	nvme.set('nvme0', { wear: 0.25 });
	close.use(start());
	await eventually('it answers', () => smartOf('SERIAL-nvme0n1') === SMART.read);
	await eventually('that is a fact, too', () => facts().some(({ code, after }) => code === 'hung' && after === 0));
	expect(verdict().state).toBe('HEALTHY');
});
