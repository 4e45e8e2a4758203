import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { putContext } from '../../cli/contexts.ts';
import { dispatch } from '../../cli/dispatch.ts';
import { testIo } from '../../cli/test-io.ts';
import { ApiWorld } from './api-world.ts';

/** The command line against the real API: an organization is founded, peopled, ruled and taken down. */
let world: ApiWorld;
const folder = mkdtempSync(join(tmpdir(), 'gpuaas-iam-cli-'));
beforeAll(async () => {
	world = await ApiWorld.start();
	const owner = await world.addPrincipal('operator', 'tenant.owner', 'organizations/globex');
	const context = { address: world.url, caPem: world.rootPem };
	await putContext(testIo(env()), 'owner', { ...context, key: owner });
	await putContext(testIo(env()), 'platform', { ...context, key: world.operatorKey });
});
afterAll(async () => {
	rmSync(folder, { recursive: true, force: true });
	await world[Symbol.asyncDispose]();
});

function env() {
	return { GPUAAS_CONFIG_DIR: folder };
}

async function gpuaas(line: string, context = 'owner') {
	const io = testIo(env());
	const exit = await dispatch([...line.split(' '), '--context', context], io);
	return { exit, out: io.out(), err: io.err() };
}

/** Standard output of a command that must succeed. */
async function done(line: string, context?: string): Promise<string> {
	const { exit, out, err } = await gpuaas(line, context);
	expect(exit, `${line}: ${err}`).toBe(0);
	return out;
}

test('an organization from its founding to its end', async () => {
	await done('org create initech --display-name Initech', 'platform');
	expect(await done('org list', 'platform')).toContain('Initech');
	await done('department create globex/research');
	await done('project create globex/vision --in globex/research');
	await done('project rename globex/vision Seeing');
	await done('project move globex/vision globex');
	expect(await done('project show globex/vision')).toContain('Seeing');
	expect(await done('project list')).toContain('globex/vision');
	const plan = /--plan ([0-9a-f]{64})/.exec(await done('project delete globex/vision'))?.[1];
	await done(`project delete globex/vision --plan ${plan} --grace 1h`);
	expect(await done('project show globex/vision')).toContain('deleting');
	await done('project resume globex/vision');
	await done('project suspend globex/vision --reason unpaid');
	expect(await done('project list')).toContain('suspended');
	await done('department delete globex/research');
});

test('people, groups, roles, and why', async () => {
	const member = await world.addPrincipal('user', 'tenant.viewer', 'organizations/globex');
	const id = `principal-${member.split('_')[3]}`;
	expect(await done('member list globex')).toContain(id);
	await done('group create globex/ml');
	await done(`group add globex/ml ${id}`);
	expect(await done('group show globex/ml')).toContain(id);
	expect(await done('group list globex')).toContain('ml');
	await done('role create globex/watcher --permission scopes.get');
	expect(await done('role show globex/watcher')).toContain('scopes.get');
	await done('role update globex/watcher --permission scopes.get --permission roles.get');
	expect(await done('role list globex')).toContain('tenant.owner');
	const made = await done(`binding create globex ${id} organizations/globex/roles/watcher --for 2h --reason call`);
	const binding = made.split(' ')[0] ?? '';
	expect(await done('binding list globex')).toMatch(/globex\/roles\/watcher +in \d+ \w+ +call/);
	expect(await done(`iam explain --as ${id} GetRole organizations/globex/roles/watcher`)).toContain('allowed');
	expect(await done(`iam explain --as ${id} DeleteScope organizations/globex`)).toMatch(/binding: +failed/);
	const able = await done('iam who-can GetRole organizations/globex/roles/watcher');
	expect(able).toContain(id);
	expect(able).toMatch(/tenant\.owner +globex +-/);
	await done(`binding delete ${binding}`);
	await done('role delete globex/watcher');
	await done(`group remove globex/ml ${id}`);
	await done('group delete globex/ml');
	const rail = (await done('guardrail create globex --forbid tasks.create --reason audit')).split(' ')[0] ?? '';
	expect(await done('guardrail list globex')).toContain('tasks.create');
	await done(`guardrail delete ${rail}`);
	await done(`member remove globex ${id}`);
	expect(await done('user list', 'platform')).toContain(id);
	await done(`user suspend ${id} --reason left`, 'platform');
	await done(`user resume ${id}`, 'platform');
});

test('keys and invitations: the secret alone on standard output, once', async () => {
	await done('service-account create globex/train/ci');
	expect(await done('service-account list globex/train')).toContain('ci');
	const account = '--service-account globex/train/ci';
	expect(await done(`key create build ${account} --cidr 127.0.0.0/8`)).toMatch(/^gpu_sk_test_\S+\n$/);
	const listed = await done(`key list ${account}`);
	const key = /organizations\/\S+\/keys\/\S+/.exec(listed)?.[0] ?? '';
	expect(await done(`key rotate ${key} ${account} --overlap 1h`)).toMatch(/^gpu_sk_test_\S+\n$/);
	await done(`key revoke ${key} --reason leaked`);
	expect(await done(`key list ${account}`)).toContain('revoked');
	expect(await done('key create laptop')).toMatch(/^gpu_uk_test_\S+\n$/);
	expect(await done('key list')).toContain('laptop');
	await done('service-account suspend globex/train/ci --reason leak');
	await done('service-account resume globex/train/ci');
	await done('service-account delete globex/train/ci');
	expect(await done('invitation create globex ada@example.org tenant.viewer')).toMatch(/^gpu_inv_\S+\n$/);
	const invitation = /organizations\/\S+\/invitations\/\S+/.exec(await done('invitation list globex'))?.[0] ?? '';
	await done(`invitation revoke ${invitation}`);
	expect((await gpuaas('org create evil')).exit).toBe(1);
});

test('what an organization may have: limits, contracts, features, and how strongly its people log in', async () => {
	expect(await gpuaas('quota set globex gpus 64')).toMatchObject({
		exit: 1,
		err: expect.stringContaining('quotas.set'),
	});
	expect(await done('quota set globex gpus 64', 'platform')).toContain('at most 64');
	await done('project create globex/small');
	expect(await gpuaas('quota set globex/small gpus 65')).toMatchObject({ exit: 1 });
	await done('quota set globex/small gpus 8');
	const { quotas } = JSON.parse(await done('quota show globex/small --json')) as {
		quotas: { kind: string; limit?: string; effectiveLimit?: string; available?: string }[];
	};
	expect(quotas.find(({ kind }) => kind === 'QUOTA_KIND_GPUS')).toMatchObject({ limit: '8', available: '8' });
	expect(await done('quota show globex/small')).toMatch(/gpus +8 +0 +0 +8 +8/);
	expect(await done('quota set globex/small gpus none')).toContain('no limit of its own');
	expect(await done('quota show globex/small')).toMatch(/gpus +- +0 +0 +64 +64/);
	expect(await done('quota usage globex')).toMatch(/globex\/small +gpus/);
	for (const wrong of ['quota set globex cars 3', 'quota set globex gpus many', 'quota show'])
		expect(await gpuaas(wrong), wrong).toMatchObject({ exit: 2 });

	expect(await gpuaas('entitlement grant globex gpu-model/H100')).toMatchObject({ exit: 1 });
	const until = '--until 2100-01-01T00:00:00Z';
	await done(`entitlement grant globex gpu-model/H100 --reason order-1 ${until}`, 'platform');
	const listed = JSON.parse(await done('entitlement list globex --json')) as {
		entitlements: { name: string; subject: string; state: string }[];
	};
	const granted = listed.entitlements.find(({ subject }) => subject === 'gpu-model/H100');
	expect(granted?.state).toBe('in force');
	const id = granted?.name.split('/').at(-1);
	expect(await done(`entitlement end globex ${id}`, 'platform')).toContain('has ended');
	expect(await done('entitlement list globex')).toMatch(/gpu-model\/H100 +ended/);
	expect(await gpuaas(`entitlement grant globex gpu-model/H100 --from soon`, 'platform')).toMatchObject({ exit: 2 });

	expect(await done('feature list', 'platform')).toMatch(/quota-warnings +default +0%/);
	await done('feature set quota-warnings 25% --scope globex --reason trial', 'platform');
	await done('feature set quota-warnings on --scope globex', 'platform');
	expect(await done('feature list', 'platform')).toMatch(/quota-warnings +globex +100%/);
	await done('feature unset quota-warnings --scope globex', 'platform');
	expect(await gpuaas('feature set quota-warnings 200%', 'platform')).toMatchObject({ exit: 2 });
	expect(await gpuaas('feature list')).toMatchObject({ exit: 1 });

	await world.addPrincipal('user', 'tenant.viewer', 'organizations/globex');
	expect(await done('iam mfa status --organization globex')).toContain('never');
	expect(await gpuaas('iam mfa status')).toMatchObject({ exit: 1 });
	expect(await done('iam mfa status', 'platform')).toContain('STRENGTH');
});
