import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { expect, test } from 'vitest';
import { auditLeaves } from '../../cli/audit-leaves.ts';
import { verifyAudit } from '../../cli/verify-audit.ts';
import { MemoryAnchor } from '../../control-plane/app/audit/anchor.ts';
import { createAppendAudit } from '../../control-plane/app/audit/append.ts';
import { SealReconciler } from '../../control-plane/reconcilers/seal.ts';
import { ed25519SignerFromSeed } from '../../pki/keys/signer.ts';
import { chainOrigin } from '../../pki/verify/chain-head.ts';
import { noteKey } from '../../pki/verify/signed-note.ts';
import { AuditService } from '../../proto/gen/gpuaas/audit/v1/audit_pb.ts';
import { NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { ApiWorld } from './api-world.ts';
import { refusalOf } from './refusal.ts';
import { UpWorld } from './up-world.ts';

/** What whoever owns the database can do to the audit log, and who finds it. */
const signer = ed25519SignerFromSeed(new Uint8Array(32).fill(5));
const keyName = 'test.gpuaas.example/audit';
const OF_RECORD_5 = 'select ord from audit_chain where seq = 5';

/** An API over a sealed log of four or more records, and what an auditor does with it. */
class AuditWorld implements AsyncDisposable {
	readonly api: ApiWorld;
	readonly anchor: MemoryAnchor;

	private constructor(api: ApiWorld, anchor: MemoryAnchor) {
		this.api = api;
		this.anchor = anchor;
	}

	static async start(): Promise<AuditWorld> {
		const api = await ApiWorld.start();
		const anchor = new MemoryAnchor();
		const { store, clock, rng, log, bus, replicaId } = api.deps;
		const nodes = api.client(NodeService, api.operatorKey);
		const { id: nodeId } = await api.addNode();
		for (const reason of ['one', 'two', 'three', 'four']) await nodes.cordonNode({ node: nodeId, reason });
		const origin = chainOrigin('test.gpuaas.example');
		const appendAudit = createAppendAudit({ clock, rng });
		const parts = { store, clock, rng, log, appendAudit, bus, anchor, replicaId };
		const seal = await SealReconciler.open({ ...parts, signer, keyName, origin });
		await seal[Symbol.asyncDispose]();
		return new AuditWorld(api, anchor);
	}

	get client() {
		return this.api.client(AuditService, this.api.operatorKey);
	}

	tamper(sql: string): void {
		edit(join(this.api.folder, 'store.db'), sql);
	}

	verify() {
		const notes = this.anchor.heads.map(({ note }) => note);
		return verifyAudit(auditLeaves(this.client), { notes, key: noteKey(keyName, signer.spki()) });
	}

	async export() {
		const leaves = [];
		for await (const page of this.client.exportAudit({ fromSeq: 1n })) leaves.push(...page.leaves);
		return leaves;
	}

	[Symbol.asyncDispose](): Promise<void> {
		return this.api[Symbol.asyncDispose]();
	}
}

function edit(path: string, sql: string): void {
	const db = new Database(path);
	try {
		const triggers = db.prepare(`select name from sqlite_schema where type = 'trigger'`).all() as { name: string }[];
		for (const { name } of triggers) db.exec(`drop trigger ${name}`);
		db.exec(sql);
	} finally {
		db.close();
	}
}

test('what nobody touched is listed, exported and verified', async () => {
	await using world = await AuditWorld.start();
	const { records } = await world.client.listAuditRecords({});
	const leaves = await world.export();
	const { heads } = await world.client.listAuditHeads({});
	expect(records.length).toBeGreaterThanOrEqual(4);
	expect(records.map(({ seq }) => seq)).toEqual(leaves.map(({ seq }) => seq));
	expect(heads.map(({ note }) => note)).toEqual(world.anchor.heads.map(({ note }) => note));
	const message = `verified to anchored head ${leaves.length}`;
	expect(await world.verify()).toEqual({ ok: true, size: leaves.length, message });
});

test.each([
	[
		'the copy of the action beside the leaf',
		`update audit_leaves set action = 'nodes.list' where ord = (${OF_RECORD_5})`,
	],
	['the copy of the action beside the chain', `update audit_chain set action = 'nodes.list' where seq = 5`],
	['the copy of the target beside the leaf', `update audit_leaves set target = 'nodes/x' where ord = (${OF_RECORD_5})`],
	['the copy of the target beside the chain', `update audit_chain set target = 'nodes/x' where seq = 5`],
	['the organization beside the leaf', `update audit_leaves set organization = 'acme' where ord = (${OF_RECORD_5})`],
	['the organization beside the chain', `update audit_chain set organization = 'acme' where seq = 5`],
	['the time beside the leaf', `update audit_leaves set at_ms = at_ms - 86400000 where ord = (${OF_RECORD_5})`],
])('%s, changed, fails the list, the export and whoever verifies', async (_what, sql) => {
	await using world = await AuditWorld.start();
	world.tamper(sql);
	const expected = { code: 'DataLoss', reason: 'AUDIT_TAMPERED', message: expect.stringMatching(/audit record 5 /) };
	expect(await refusalOf(world.client.listAuditRecords({}))).toMatchObject(expected);
	expect(await refusalOf(world.export())).toMatchObject(expected);
	expect(await refusalOf(world.verify())).toMatchObject(expected);
});

test.each([
	['another value', `replace(clear, '"value":"', '"value":"not ')`, /"actor" is not what the leaf commits to/],
	['a field that nobody committed to', `'{"more":{"salt":"00","value":"x"}}'`, /"more" .* \(not in the leaf\)/],
	['no JSON', `'x'`, /clear text can not be read/],
])('clear text that is %s is found in the record it stands beside', async (_what, value, message) => {
	await using world = await AuditWorld.start();
	const id = `(select id from audit_leaves where ord = (${OF_RECORD_5}))`;
	world.tamper(`update audit_clear set clear = ${value} where leaf_id = ${id}`);
	const verified = await world.verify();
	expect(verified).toMatchObject({ ok: false, size: 5 });
	expect(verified.message).toMatch(/^NOT verified: record 5 /);
	expect(verified.message).toMatch(message);
	expect(await refusalOf(world.client.listAuditRecords({}))).toMatchObject({ reason: 'AUDIT_TAMPERED' });
});

test('erased clear text is no tampering', async () => {
	await using world = await AuditWorld.start();
	world.tamper('update audit_clear set clear = null');
	expect(await world.verify()).toMatchObject({ ok: true });
	const { records } = await world.client.listAuditRecords({});
	expect(records.at(-1)).toMatchObject({ peer: '' });
});

test('an altered leaf and a tail that was cut off are not verified', async () => {
	await using altered = await AuditWorld.start();
	const leaf = `cast(replace(cast(leaf as text), '"ok"', '"no"') as blob)`;
	altered.tamper(`update audit_leaves set leaf = ${leaf} where ord = (${OF_RECORD_5})`);
	expect(await altered.verify()).toMatchObject({ ok: false, size: 5 });
	await using cut = await AuditWorld.start();
	cut.tamper('delete from audit_chain where seq >= 5');
	const verified = await cut.verify();
	expect(verified).toMatchObject({ ok: false, size: 5 });
	expect(verified.message).toContain('tail was cut off');
});

/** Everything that outlived the database on the control plane's own host was removed with it: only the agent knows. */
test('a control plane that was rolled back is stopped by the head that its agent kept', async () => {
	await using world = new UpWorld();
	const keptFile = join(world.data, 'agent', 'audit-head');
	const database = join(world.data, 'control-plane', 'control-plane.db');
	const kept = () => (existsSync(keptFile) ? Number(readFileSync(keptFile, 'utf8').split('\n')[1] ?? 0) : 0);
	const poll = { timeout: 60_000, interval: 200 };
	await world.up();
	await world.stop();
	const old = readFileSync(database);
	expect(existsSync(`${database}-wal`), 'all of it is in one file').toBe(false);

	await world.up();
	expect((await world.run('token', 'create')).code).toBe(0);
	const { records } = await world.json<{ records: { seq?: string }[] }>('audit', 'list');
	const size = Math.max(...records.map(({ seq }) => Number(seq ?? 0)));
	await expect.poll(kept, poll).toBeGreaterThanOrEqual(size);
	await world.stop();
	const evidence = readFileSync(keptFile, 'utf8');
	const controlPlane = join(world.data, 'control-plane');
	const newLog = () => world.run('audit', 'new-log', '--data', controlPlane, '--reason', 'no newer backup');
	const refused = await newLog();
	expect(refused.code).not.toBe(0);
	expect(refused.stderr).toContain('the audit log is whole');

	writeFileSync(database, old);
	rmSync(join(world.data, 'control-plane', 'audit-heads.jsonl'));
	await world.up();
	const created = async () => {
		const ran = await world.run('token', 'create');
		return ran.code === 0 ? 'made' : ran.stderr;
	};
	await expect.poll(created, poll).toContain("the audit log can't be continued");
	expect(readFileSync(keptFile, 'utf8')).toBe(evidence);

	// The last resort: the operator of that host begins a new log, and says so in it.
	await world.stop();
	const begun = await newLog();
	expect(begun).toMatchObject({ code: 0, stdout: expect.stringContaining(`lost head of ${evidence.split('\n')[1]}`) });
	expect(readFileSync(join(controlPlane, 'audit-heads.jsonl.log-1'), 'utf8')).toContain(JSON.stringify(evidence));
	await world.up();
	expect((await world.run('token', 'create')).code).toBe(0);
	expect((await world.run('audit', 'verify')).stdout).toContain('of log 2');
	// The agent follows it, says so once and keeps what it knew of the former one.
	await expect.poll(() => readFileSync(keptFile, 'utf8').split('\n')[0], poll).toContain('/audit-chain/v1/log-2');
	expect(readFileSync(`${keptFile}.log-1`, 'utf8')).toBe(evidence);
	const told = ['audit', 'list', '--action', 'agent.audit.new-log-shown'];
	await expect.poll(async () => (await world.json<{ records?: unknown[] }>(...told)).records?.length, poll).toBe(1);
	const named = await world.json<{ records: { action: string; detail: string }[] }>(
		'audit',
		'list',
		'--action',
		'audit.',
	);
	expect(named.records.filter(({ action }) => action === 'audit.new-log')).toHaveLength(1);
	const lost = join(controlPlane, 'audit-heads.jsonl.log-1');
	const key = join(controlPlane, 'audit.vkey');
	const former = await world.run('audit', 'verify', '--anchors', lost, '--key', key);
	expect([former.code, former.stderr]).toEqual([1, expect.stringContaining('NOT verified')]);
}, 300_000);
