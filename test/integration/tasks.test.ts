import {
	appendFileSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	realpathSync,
	rmSync,
	symlinkSync,
	writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SqliteJournal } from '../../agent/journal/sqlite.ts';
import { parsePolicy } from '../../agent/tasks/policy.ts';
import { endTasks } from '../../control-plane/app/tasks/end-tasks.ts';
import { loseTasksOfNode } from '../../control-plane/app/tasks/lose-tasks.ts';
import { systemContext } from '../../control-plane/context.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { createLogger, silentLogger } from '../../kit/log.ts';
import { generateSigner } from '../../pki/keys/signer.ts';
import { signDsseSync } from '../../pki/verify/dsse.ts';
import { TASK_ENVELOPE_TYPE } from '../../pki/verify/task.ts';
import { outputSha256OfChunks } from '../../pki/verify/task-output.ts';
import { DsseEnvelopeSchema } from '../../proto/gen/gpuaas/common/v1/types_pb.ts';
import type { Fact } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { TaskReceiptSchema } from '../../proto/gen/gpuaas/link/v1/task_documents_pb.ts';
import { claimQueued } from '../contract/store/claim-queued.ts';
import { eventually } from '../eventually.ts';
import { hostPid, ME, type Node, type RunningNode, run, startTasksWorld, type TasksWorld } from './tasks-world.ts';

const ctx = systemContext('test', systemClock, silentLogger, 'test');
const sh = (script: string) => run('/bin/sh', '-c', script);

const REBOOTS = parsePolicy('[tasks]\nkinds = ["reboot"]\n[reboot]\nallowed = true', 'agent.policy.toml');

class CountedRebooter {
	readonly refusal = undefined;
	readonly asked = Promise.withResolvers<void>();
	reboots = 0;

	async reboot(): Promise<void> {
		this.reboots += 1;
		this.asked.resolve();
	}
}

/** The first start finds no room in it. */
class FullOnce extends SqliteJournal {
	refused = 0;

	override appendFacts(facts: readonly Fact[]): readonly Fact[] {
		if (this.refused > 0 || !facts.some(({ fact }) => fact.case === 'taskStarted')) return super.appendFacts(facts);
		this.refused += 1;
		throw new Error('the disk is full');
	}
}

describe('tasks', () => {
	let tasks: TasksWorld;
	let node: Node;
	let running: RunningNode;
	let nodeId: string;
	let folder: string;
	beforeAll(async () => {
		folder = mkdtempSync(join(tmpdir(), 'gpuaas-tasks-files-'));
		tasks = await startTasksWorld();
		node = await tasks.newNode();
		nodeId = node.identity.nodeId;
		running = await node.start();
	});
	afterAll(async () => {
		await tasks[Symbol.asyncDispose]();
		rmSync(folder, { recursive: true });
	});

	const documents = (id: string, attempt = 1) => tasks.world.store.read((tx) => tx.tasks.getDocuments(id, attempt));
	const receiptOf = async (id: string) => {
		const stored = present((await documents(id))?.receipt, 'the task has a receipt');
		return fromBinary(TaskReceiptSchema, fromBinary(DsseEnvelopeSchema, stored).payload);
	};
	const textSoFar = async (id: string, wanted: 'stdout' | 'stderr') => {
		const chunks = await tasks.world.output.read(id, 1);
		return Buffer.concat(chunks.filter(({ stream }) => stream === wanted).map(({ data }) => data));
	};

	/** On a slow machine any task may run long enough to have its output come by a stream of its own. */
	const text = async (id: string, wanted: 'stdout' | 'stderr') => {
		await tasks.wait(id, ({ outputComplete }) => outputComplete);
		return await textSoFar(id, wanted);
	};

	it('runs a program and ends by its signed receipt', async () => {
		const id = await tasks.submit(nodeId, sh('echo out; echo err >&2; exit 3'));
		expect(await tasks.ended(id)).toMatchObject({
			state: 'failed',
			exitCode: 3,
			reason: 'EXIT_CODE',
			outputBytes: 8,
			custody: 'platform',
		});
		expect((await text(id, 'stdout')).toString()).toBe('out\n');
		expect((await text(id, 'stderr')).toString()).toBe('err\n');
		expect(await receiptOf(id)).toMatchObject({ taskId: id, nodeId, attempt: 1, agentVersion: 'test' });
	});

	it('keeps bytes that are no text as they are', async () => {
		const id = await tasks.submit(nodeId, sh("printf '\\377\\376\\000\\200'"));
		expect(await tasks.ended(id)).toMatchObject({ state: 'succeeded' });
		expect([...(await text(id, 'stdout'))]).toEqual([0xff, 0xfe, 0, 0x80]);
	});

	it('streams an output that is too large to go with the receipt, and the receipt covers it', async () => {
		const id = await tasks.submit(nodeId, sh('seq 1 30000; echo end >&2'));
		await tasks.ended(id);
		const ended = await tasks.wait(id, ({ outputComplete }) => outputComplete);
		const chunks = await tasks.world.output.read(id, 1);
		expect((await text(id, 'stdout')).toString().trimEnd().split('\n').at(-1)).toBe('30000');
		expect(ended.outputBytes).toBe(chunks.reduce((sum, { data }) => sum + data.length, 0));
		const { outcome } = await receiptOf(id);
		expect(Buffer.from(outcome?.outputSha256 ?? [])).toEqual(Buffer.from(outputSha256OfChunks(chunks)));
	});

	it('says what a signal and a timeout did', async () => {
		const killed = await tasks.submit(nodeId, sh('kill -KILL $$'));
		const late = await tasks.submit(nodeId, run('/bin/sleep', '1000'), { timeoutMs: 50 });
		expect(await tasks.ended(killed)).toMatchObject({
			state: 'failed',
			signal: 9,
			exitCode: null,
			reason: 'SIGNALLED',
		});
		expect(await tasks.ended(late)).toMatchObject({ state: 'timed_out', reason: 'TIMED_OUT' });
	});

	it('streams the output of a running task and stops it when it is cancelled', async () => {
		const id = await tasks.submit(nodeId, sh('echo here; exec sleep 1000'));
		const seen = Promise.withResolvers<void>();
		const unsubscribe = tasks.world.app.bus.subscribe('tasks.output', ({ key }) =>
			key === id ? seen.resolve() : undefined,
		);
		await seen.promise.finally(unsubscribe);
		expect((await textSoFar(id, 'stdout')).toString()).toBe('here\n');
		await cancel(id);
		expect(await tasks.ended(id)).toMatchObject({ state: 'cancelled', reason: 'CANCELLED' });
		expect((await tasks.wait(id, ({ outputComplete }) => outputComplete)).outputBytes).toBe(5);
	});

	async function cancel(id: string): Promise<void> {
		const { attempt, fencingToken, correlationId } = await tasks.task(id);
		await tasks.world.store.unit((tx) =>
			tx.tasks.update(id, { state: 'cancelling', cancelRequestedAtMs: systemClock.now(), cancelGraceMs: 1000 }, [
				'leased',
				'running',
			]),
		);
		const command = { taskId: id, attempt, fencingToken, graceMs: 1000, reason: 'CANCELLED', correlationId };
		expect(tasks.world.registry.cancel(nodeId, command)).toBe(true);
	}

	it('runs an offer once, however often it comes', async () => {
		const [file, gate] = [join(folder, 'once'), join(folder, 'once-gate')];
		const id = await tasks.submit(nodeId, sh(`echo x >>${file}; while [ ! -e ${gate} ]; do sleep 0.05; done`));
		await tasks.wait(id, ({ state }) => state === 'running');
		const envelope = present((await documents(id))?.envelope, 'the envelope is stored');
		const again = () => tasks.world.registry.offer(nodeId, { taskId: id, attempt: 1, correlationId: '', envelope });
		expect(again()).toBe(true);
		appendFileSync(gate, '');
		await tasks.ended(id);
		expect(again()).toBe(true);
		// A task after it: the second offer was handled before.
		await tasks.ended(await tasks.submit(nodeId, run('/bin/true')));
		expect(readFileSync(file, 'utf8')).toBe('x\n');
		expect(await tasks.task(id)).toMatchObject({ state: 'succeeded', attempt: 1 });
	});

	it('refuses an envelope that somebody else signed, and goes on refusing the same attempt', async () => {
		const offline = await tasks.newNode();
		// Its journal has begun: what is sent from now on is judged by what it keeps, and not called lost.
		const before = await offline.start();
		await tasks.ended(await tasks.submit(offline.identity.nodeId, run('/bin/true')));
		await before.stop();
		const id = await tasks.submit(offline.identity.nodeId, sh(`echo x >>${join(folder, 'forged')}`));
		const row = await tasks.task(id);
		const [claimed] = await claimQueued(tasks.world.store, row.nodeId, 1, systemClock.now() + 60_000);
		const { signEnvelope } = await import('../../control-plane/app/tasks/envelope.ts');
		const genuine = await signEnvelope(tasks.world.app, present(claimed, 'the task is queued'), 1, systemClock.now());
		const dsse = fromBinary(DsseEnvelopeSchema, genuine.envelope);
		const forged = signDsseSync(TASK_ENVELOPE_TYPE, dsse.payload, generateSigner('ed25519'));
		const envelope = toBinary(DsseEnvelopeSchema, create(DsseEnvelopeSchema, forged));
		// Not yet stored: dispatch would send the genuine one.
		await tasks.world.store.unit((tx) => tx.tasks.putDocuments({ taskId: id, attempt: 1, envelope }));
		await offline.start();
		expect(await tasks.ended(id)).toMatchObject({
			state: 'refused',
			reason: 'ENVELOPE_SIGNATURE',
			outputComplete: true,
		});
		tasks.world.registry.offer(row.nodeId, { taskId: id, attempt: 1, correlationId: '', envelope: genuine.envelope });
		await tasks.ended(await tasks.submit(row.nodeId, run('/bin/true')));
		expect(readdirSync(folder)).not.toContain('forged');
	});

	it('lets no forgery end a task that is under way', async () => {
		const gate = join(folder, 'forgery');
		const id = await tasks.submit(nodeId, sh(`while [ ! -e ${gate} ]; do sleep 0.05; done`));
		await tasks.wait(id, ({ state }) => state === 'running');
		const genuine = fromBinary(DsseEnvelopeSchema, present((await documents(id))?.envelope, 'it was sent'));
		const forged = signDsseSync(TASK_ENVELOPE_TYPE, genuine.payload, generateSigner('ed25519'));
		const envelope = toBinary(DsseEnvelopeSchema, create(DsseEnvelopeSchema, forged));
		tasks.world.registry.offer(nodeId, { taskId: id, attempt: 1, correlationId: 'forged', envelope });
		await tasks.ended(await tasks.submit(nodeId, run('/bin/true')));
		expect(await tasks.task(id)).toMatchObject({ state: 'running' });
		appendFileSync(gate, '');
		expect(await tasks.ended(id)).toMatchObject({ state: 'succeeded' });
		const records = await tasks.world.store.read((tx) => tx.audit.listUnchained(1000));
		expect(records.some(({ action }) => action === 'agent.envelope.refuse')).toBe(true);
	});

	it.each([
		['a kind', '[tasks]\nkinds = ["reboot"]', 'POLICY_KIND'],
		['a user', '[tasks]\nkinds = ["run"]\n[run]\nusers = ["nobody"]\nbinaries = ["/**"]', 'POLICY_USER'],
		['a program', `[tasks]\nkinds = ["run"]\n[run]\nusers = ["${ME}"]\ndefault_user = "${ME}"`, 'POLICY_BINARY'],
	])('obeys the policy of the node about %s, and tries no second time', async (_, policy, reason) => {
		const strict = await tasks.newNode();
		await strict.start({ policy: parsePolicy(policy, 'agent.policy.toml') });
		const id = await tasks.submit(strict.identity.nodeId, run('/bin/true'), { attemptsMax: 3 });
		expect(await tasks.ended(id)).toMatchObject({ state: 'refused', reason, attempt: 1, startedAtMs: null });
		expect(await documents(id)).toMatchObject({ receipt: null });
	});

	it('follows links before it believes a path, and lets no variable in that the node does not name', async () => {
		const strict = await tasks.newNode();
		const bin = realpathSync(mkdtempSync(join(folder, 'bin-')));
		symlinkSync('/bin/sh', join(bin, 'link'));
		writeFileSync(join(bin, 'own'), '#!/bin/sh\necho "$WORD $PATH"\n', { mode: 0o755 });
		const user = `users = ["${ME}"]\ndefault_user = "${ME}"`;
		const file = `[tasks]\nkinds = ["run"]\n[run]\n${user}\nbinaries = ["${bin}/*"]\nenv = ["WORD"]\npath = "/bin"`;
		await strict.start({ policy: parsePolicy(file, 'agent.policy.toml') });
		const submit = (name: string, env: Record<string, string>) =>
			tasks.submit(strict.identity.nodeId, { kind: { case: 'run', value: { argv: [join(bin, name)], env } } });
		const linked = await submit('link', {});
		const loaded = await submit('own', { LD_PRELOAD: '/tmp/evil.so' });
		const id = await submit('own', { WORD: 'word', PATH: '/tmp/evil' });
		expect(await tasks.ended(linked)).toMatchObject({ state: 'refused', reason: 'POLICY_BINARY', startedAtMs: null });
		expect(await tasks.ended(loaded)).toMatchObject({
			state: 'refused',
			reason: 'POLICY_ENV',
			message: expect.stringContaining('LD_PRELOAD'),
		});
		expect(await tasks.ended(id)).toMatchObject({ state: 'succeeded' });
		expect(String(await text(id, 'stdout'))).toBe('word /bin\n');
	});

	it('names the correlation id of whoever made a task on every line about it', async () => {
		const lines: string[] = [];
		const log = createLogger({ name: 'agent', level: 'debug', destination: { write: (line) => lines.push(line) } });
		const spoken = await tasks.newNode();
		await spoken.start({ log });
		const submit = (correlationId: string, program: string) =>
			tasks.submit(spoken.identity.nodeId, run(program), { correlationId });
		const id = await submit('from-create-task', '/bin/true');
		const refused = await submit('from-another', '/no/such/program');
		await tasks.ended(id);
		await tasks.ended(refused);
		const said = (task: string) =>
			lines
				.map((line) => JSON.parse(line))
				.flatMap((line) => (line.task === task ? [[line.message, line.correlation_id]] : []));
		expect(said(id)).toEqual([
			['accepted a task', 'from-create-task'],
			['launched a task', 'from-create-task'],
			['ended a task', 'from-create-task'],
		]);
		expect(said(refused)).toEqual([['refused a task', 'from-another']]);
	});

	it('refuses what the host can not start', async () => {
		const missing = await tasks.submit(nodeId, run('/no/such/program'));
		const folderMissing = await tasks.submit(nodeId, {
			kind: { case: 'run', value: { argv: ['/bin/true'], cwd: '/no/such/folder' } },
		});
		expect(await tasks.ended(missing)).toMatchObject({ state: 'refused', reason: 'COMMAND_NOT_FOUND' });
		expect(await tasks.ended(folderMissing)).toMatchObject({ state: 'refused', reason: 'CWD_MISSING' });
	});

	it('never restarts a machine that was not meant to be', async () => {
		const allowed = await tasks.newNode();
		await allowed.start({ policy: REBOOTS });
		const spec = { kind: { case: 'reboot' as const, value: { reason: 'test' } } };
		const id = await tasks.submit(allowed.identity.nodeId, spec);
		expect(await tasks.ended(id)).toMatchObject({ state: 'refused', reason: 'REBOOT_NOT_ALLOWED' });
	});

	it('restarts once, and has succeeded when it comes back under another boot id', async () => {
		const machine = await tasks.newNode();
		const rebooter = new CountedRebooter();
		const before = await machine.start({ policy: REBOOTS, platform: { bootId: 'boot-1', rebooter } });
		const spec = { kind: { case: 'reboot' as const, value: { reason: 'test' } } };
		const id = await tasks.submit(machine.identity.nodeId, spec);
		await rebooter.asked.promise;
		await tasks.wait(id, ({ state }) => state === 'running');
		await before.stop();
		const same = await machine.start({ policy: REBOOTS, platform: { bootId: 'boot-1', rebooter } });
		await expect.poll(() => same.runner.leaders().map(({ taskId }) => taskId)).toEqual([id]);
		await same.stop();
		await machine.start({ policy: REBOOTS, platform: { bootId: 'boot-2', rebooter } });
		expect(await tasks.ended(id)).toMatchObject({ state: 'succeeded' });
		expect(rebooter.reboots).toBe(1);
	});

	it('refuses new tasks when its journal is full, as often as may be tried, and takes them again later', async () => {
		const full = await tasks.newNode();
		const path = join(folder, 'full.db');
		const first = await full.start({ journal: new SqliteJournal({ path, bytesMax: 1 }) });
		const id = await tasks.submit(full.identity.nodeId, run('/bin/true'), { attemptsMax: 3 });
		expect(await tasks.ended(id)).toMatchObject({ state: 'refused', reason: 'JOURNAL_FULL', attempt: 3 });
		await first.stop();
		await full.start({ journal: new SqliteJournal({ path }) });
		const again = await tasks.submit(full.identity.nodeId, run('/bin/true'));
		expect(await tasks.ended(again)).toMatchObject({ state: 'succeeded' });
	});

	it('collects a bundle that tar can read', async () => {
		const id = await tasks.submit(nodeId, { kind: { case: 'collectBundle', value: { parts: ['kernel', 'agent'] } } });
		expect(await tasks.ended(id)).toMatchObject({ state: 'succeeded' });
		await tasks.wait(id, ({ outputComplete }) => outputComplete);
		const path = join(folder, 'bundle.tar');
		writeFileSync(path, await text(id, 'stdout'));
		const { execFileSync } = await import('node:child_process');
		const tar = (...args: string[]) => execFileSync('tar', [...args, path], { encoding: 'utf8' });
		expect(tar('tf').split('\n')).toContain('kernel/version.txt');
		expect(tar('xOf').includes('a line of the agent\n')).toBe(true);
	});

	it('lets a late receipt replace lost, and audits it', async () => {
		const gate = join(folder, 'gate');
		const id = await tasks.submit(nodeId, sh(`while [ ! -e ${gate} ]; do sleep 0.05; done`));
		await tasks.wait(id, ({ state }) => state === 'running');
		expect(await loseTasksOfNode(tasks.world.app, ctx, nodeId)).toBe(1);
		expect(await tasks.task(id)).toMatchObject({ state: 'lost', reason: 'LEASE_LOST' });
		expect(await documents(id)).toMatchObject({ closing: expect.anything() });
		appendFileSync(gate, '');
		expect(await tasks.wait(id, ({ state }) => state !== 'lost')).toMatchObject({ state: 'succeeded', attempt: 1 });
		const records = await tasks.world.store.read((tx) =>
			tx.audit.query({
				afterSeq: null,
				limit: 10,
				action: 'tasks.supersede',
				target: `tasks/${id}`,
				organizations: null,
				newestFirst: false,
			}),
		);
		const unchained = await tasks.world.store.read((tx) => tx.audit.listUnchained(1000));
		expect(
			[...records, ...unchained].some(({ action, target }) => action === 'tasks.supersede' && target === `tasks/${id}`),
		).toBe(true);
	});

	it('ends tasks of the platform on a host that went into the hands of a tenant', async () => {
		const tenant = await tasks.newNode();
		const id = await tasks.submit(tenant.identity.nodeId, run('/bin/true'));
		await tasks.world.store.unit((tx) => tx.nodes.update(tenant.identity.nodeId, { custody: 'tenant' }));
		await tenant.start();
		expect(await tasks.ended(id)).toMatchObject({
			state: 'cancelled',
			reason: 'NODE_IN_TENANT_CUSTODY',
			acceptedAtMs: null,
		});
	});

	it('ends only what is still as it was when its closing was signed', async () => {
		const idle = await tasks.newNode();
		const id = await tasks.submit(idle.identity.nodeId, run('/bin/true'));
		const before = await tasks.task(id);
		const ending = { state: 'cancelled', reason: 'CANCELLED', message: '' } as const;
		expect(await endTasks(tasks.world.app, [{ ...before, state: 'leased' }], ending)).toEqual([]);
		expect(await endTasks(tasks.world.app, [{ ...before, attempt: 1 }], ending)).toEqual([]);
		expect(await endTasks(tasks.world.app, [before], ending)).toMatchObject([{ state: 'cancelled' }]);
		expect(await endTasks(tasks.world.app, [before], ending)).toEqual([]);
	});

	it('goes on with what runs when the agent restarts', async () => {
		const restarted = await tasks.newNode();
		const first = await restarted.start();
		const gate = join(folder, 'restart');
		const id = await tasks.submit(
			restarted.identity.nodeId,
			sh(`echo begun; while [ ! -e ${gate} ]; do sleep 0.05; done; echo done`),
		);
		await tasks.wait(id, ({ state }) => state === 'running');
		await first.stop();
		await restarted.start();
		appendFileSync(gate, '');
		expect(await tasks.ended(id)).toMatchObject({ state: 'succeeded' });
		await tasks.wait(id, ({ outputComplete }) => outputComplete);
		expect((await text(id, 'stdout')).toString()).toBe('begun\ndone\n');
	});

	it('says that a task is lost when the process host is killed, and leaves nothing running', async () => {
		const doomed = await tasks.newNode();
		await doomed.start();
		const mark = `1000.${process.pid}`;
		const id = await tasks.submit(doomed.identity.nodeId, run('/bin/sleep', mark));
		await tasks.wait(id, ({ state }) => state === 'running');
		await eventually('it is there', () => processesWith(mark).length === 1);
		process.kill(present(await hostPid(doomed.folder), 'a process host lives'), 'SIGKILL');
		expect(await tasks.ended(id)).toMatchObject({ state: 'lost', reason: 'HOST_DIED' });
		await eventually('it is gone', () => processesWith(mark).length === 0);
		expect(await tasks.ended(await tasks.submit(doomed.identity.nodeId, run('/bin/true')))).toMatchObject({
			state: 'succeeded',
		});
	});

	it('stops what nobody can answer for when the journal is lost', async () => {
		const forgetful = await tasks.newNode();
		const first = await forgetful.start({ journal: new SqliteJournal({ path: join(folder, 'lost-1.db') }) });
		const mark = `2000.${process.pid}`;
		const id = await tasks.submit(forgetful.identity.nodeId, run('/bin/sleep', mark));
		await tasks.wait(id, ({ state }) => state === 'running');
		await first.stop();
		await forgetful.start({ journal: new SqliteJournal({ path: join(folder, 'lost-2.db') }) });
		expect(await tasks.ended(id)).toMatchObject({ state: 'lost', reason: 'JOURNAL_LOST' });
		await tasks.ended(await tasks.submit(forgetful.identity.nodeId, run('/bin/true')));
		await eventually('it is gone', () => processesWith(mark).length === 0);
	});

	it('never runs again what a lost journal may have seen', async () => {
		const forgetful = await tasks.newNode();
		const first = await forgetful.start({ journal: new SqliteJournal({ path: join(folder, 'seen-1.db') }) });
		await tasks.ended(await tasks.submit(forgetful.identity.nodeId, run('/bin/true')));
		await first.stop();
		// Sent under the first journal, as far as the control plane can know.
		const file = join(folder, 'seen');
		const id = await tasks.submit(forgetful.identity.nodeId, sh(`echo x >>${file}`));
		await claimQueued(tasks.world.store, forgetful.identity.nodeId, 1, systemClock.now() + 60_000);
		await forgetful.start({ journal: new SqliteJournal({ path: join(folder, 'seen-2.db') }) });
		expect(await tasks.ended(id)).toMatchObject({ state: 'lost', reason: 'JOURNAL_LOST' });
		expect(await tasks.ended(await tasks.submit(forgetful.identity.nodeId, run('/bin/true')))).toMatchObject({
			state: 'succeeded',
		});
		expect(readdirSync(folder)).not.toContain('seen');
	});

	it('keeps nothing of a task once everything is stored', async () => {
		const id = await tasks.submit(nodeId, run('/bin/true'));
		await tasks.ended(id);
		await tasks.ended(await tasks.submit(nodeId, run('/bin/true')));
		await eventually('it is done', () => running.journal.getAttempt(id, 1)?.phase === 'done');
	});
});

it('restarts, once, when a journal that was full has taken its start', async () => {
	await using tasks = await startTasksWorld();
	const machine = await tasks.newNode();
	const rebooter = new CountedRebooter();
	const path = join(machine.identityFolder, 'full-once.db');
	const journal = new FullOnce({ path });
	const before = await machine.start({ policy: REBOOTS, journal, platform: { bootId: 'boot-1', rebooter } });
	const spec = { kind: { case: 'reboot' as const, value: { reason: 'test' } } };
	const id = await tasks.submit(machine.identity.nodeId, spec);
	await rebooter.asked.promise;
	expect([journal.refused, rebooter.reboots]).toEqual([1, 1]);
	await tasks.wait(id, ({ state }) => state === 'running');
	await before.stop();
	const again = new SqliteJournal({ path });
	await machine.start({ policy: REBOOTS, journal: again, platform: { bootId: 'boot-2', rebooter } });
	expect(await tasks.ended(id)).toMatchObject({ state: 'succeeded' });
	expect(rebooter.reboots).toBe(1);
});

function processesWith(argument: string): string[] {
	return readdirSync('/proc').filter((pid) => {
		if (!/^\d+$/.test(pid)) return false;
		try {
			return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(argument);
		} catch {
			return false;
		}
	});
}
