import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../eventually.ts';
import { GpuHost } from './gpu-host.ts';
import { type Ready, type Started, UpWorld } from './up-world.ts';

/**
 * Health the whole way in processes of their own: fake driver and kernel log, probe, agent, journal, mTLS, monitor, API,
 * command line. The driver is a test double, so every verdict says simulated.
 */
interface Verdict {
	readonly subject: { readonly kind: string; readonly id: string };
	readonly state: string;
	readonly simulated: boolean;
	readonly actions: readonly string[];
	readonly reasons: readonly { readonly checkId: string; readonly code: string }[];
	readonly evidence: readonly { readonly raw: string }[];
}
interface Health {
	readonly glance?: { readonly state: string; readonly schedulable: boolean; readonly quarantined: boolean };
	readonly verdicts: readonly Verdict[];
}

const GPU_0 = 'GPU-fa4e0000-0000-4000-8000-000000000000';
const world = new UpWorld();
const host = new GpuHost(world, 'model h100\ngpus 2', 'health-host');
let ready: Ready;
let watch: Started;

const health = () => world.json<Health>('node', 'health', 'gpu-1');
const nodeState = async () => (await health()).glance?.state;
const waitFor = (what: string, is: (health: Health) => boolean | undefined) =>
	eventually(
		what,
		async () => {
			const now = await health();
			return is(now) === true && now;
		},
		120_000,
	);
const gpuOf = ({ verdicts }: Health, id = GPU_0) => verdicts.find(({ subject }) => subject.id === id);
const isState = (state: string) => (now: Health) => now.glance?.state === `HEALTH_STATE_${state}`;

beforeAll(async () => {
	ready = await world.up();
	await host.enroll(ready, 'gpu-1');
	await host.start();
	// A frame a second, so that nothing here waits for periods.
	watch = world.start(['telemetry', 'watch', 'gpu-1', '--fast', '--json']);
	await waitFor('it is judged', isState('HEALTHY'));
});

afterAll(async () => {
	watch.child.kill('SIGTERM');
	await host.stop();
	await world[Symbol.asyncDispose]();
});

const serviced = async (reason: string) => {
	const ran = await world.run('health', 'evidence', 'gpu-1', 'serviced', '--reason', reason);
	expect(ran).toMatchObject({ code: 0 });
	await waitFor('it is well again', isState('HEALTHY'));
};

test('a host whose driver and hardware are well is HEALTHY, shown wherever nodes and GPUs are', async () => {
	const now = await health();
	expect(now.verdicts.map(({ subject, state }) => [subject.kind, state])).toEqual([
		['HEALTH_SUBJECT_KIND_NODE', 'HEALTH_STATE_HEALTHY'],
		['HEALTH_SUBJECT_KIND_GPU', 'HEALTH_STATE_HEALTHY'],
		['HEALTH_SUBJECT_KIND_GPU', 'HEALTH_STATE_HEALTHY'],
	]);
	expect((await world.run('node', 'list')).stdout).toMatch(/gpu-1 +available +HEALTHY, simulated/);
	expect((await world.run('gpu', 'list', '-n', 'gpu-1')).stdout.match(/ HEALTHY /g)).toHaveLength(2);
	const page = await (await fetch(`${ready.ops}/metrics`)).text();
	expect(page).toMatch(/^gpuaas_health_nodes\{state="HEALTHY"\} [12]$/m);
});

test('a burst of XIDs in the kernel log is one incident: the severest speaks, nobody gets the node, evidence ends it', async () => {
	for (const code of [45, 94, 79]) host.kernelSays(`NVRM: Xid (PCI:0000:1b:00): ${code}, pid=7, name=train`);
	const now = await waitFor('the burst is judged', (found) => gpuOf(found)?.evidence.length === 3);
	expect(gpuOf(now)).toMatchObject({
		state: 'HEALTH_STATE_UNHEALTHY',
		simulated: true,
		actions: ['HEALTH_ACTION_DRAIN', 'HEALTH_ACTION_REBOOT_NODE'],
		reasons: [{ checkId: 'xid', code: 'xid:79' }],
	});
	expect(now.glance).toMatchObject({ state: 'HEALTH_STATE_UNHEALTHY', schedulable: false, quarantined: true });
	await world.run('org', 'create', 'acme');
	await world.run('project', 'create', 'acme/train');
	const refused = await world.run('node', 'assign', 'gpu-1', 'acme/train');
	expect(refused.code).not.toBe(0);
	expect(refused.stderr).toMatch(/quarantine \(simulated: xid xid:79\)/);
	const text = (await world.run('node', 'health', 'gpu-1')).stdout;
	expect(text).toMatch(/gpu-1: UNHEALTHY, simulated, quarantined/);
	expect(text).toMatch(/why: +xid \(xid:79\)/);
	expect(text).toMatch(/seen: .* kmsg: .*Xid.* 79,/);
	expect(text).toMatch(/next:\n +gpuaas node drain gpu-1/);
	expect((await world.run('top', '--once')).stdout).toMatch(/gpu-1 .*sim UNHEALTHY/);
	const { nodes } = await world.json<{ nodes: { id: string; name: string }[] }>('node', 'list');
	const id = nodes.find(({ name }) => name === 'gpu-1')?.id ?? '';
	const page = await (await fetch(`${ready.ops}/metrics/nodes/${id}`)).text();
	expect(page).toContain(
		`gpuaas_gpu_health{node="${id}",gpu="0",uuid="${GPU_0}",state="UNHEALTHY",simulated="true"} 1`,
	);
	expect(page).toContain(`gpuaas_node_health{node="${id}",state="HEALTHY",simulated="true"} 0`);
	await serviced('replaced the board');
	expect((await health()).glance).toMatchObject({ schedulable: true, quarantined: false });
});

test('the record of a node, replayed against the policy, says what the platform said', async () => {
	const file = join(world.root, 'facts.ndjson');
	const ran = await world.run('node', 'health', 'gpu-1', '--facts');
	expect(ran.code).toBe(0);
	writeFileSync(file, ran.stdout);
	const replayed = await world.run('health', 'policy', 'test', file, '--facts-only', '--json');
	expect(replayed.stderr).toBe('');
	const said = replayed.stdout
		.trim()
		.split('\n')
		.map((line) => JSON.parse(line) as { subject: { kind: string }; state: string; actions: string[] });
	const gpu = said.filter(({ subject }) => subject.kind === 'gpu').map(({ state }) => state);
	expect(gpu).toContain('UNHEALTHY');
	expect(gpu.at(-1)).toBe('HEALTHY');
});

test('a storm of corrected errors is DEGRADED although nothing is uncorrected', async () => {
	host.driver.set('model h100\ngpus 2\necc_storm 0 17700');
	const now = await waitFor('the storm is judged', (found) => gpuOf(found)?.state === 'HEALTH_STATE_DEGRADED');
	expect(gpuOf(now)?.reasons.map(({ checkId }) => checkId)).toContain('ecc.storm');
	expect(now.glance).toMatchObject({ schedulable: false });
	host.driver.set('model h100\ngpus 2');
	await serviced('looked at it');
});

test('a lost GPU is UNHEALTHY and one that comes back is not', async () => {
	host.driver.set('model h100\ngpus 2\nlost 0');
	const now = await waitFor('it is lost', (found) => gpuOf(found)?.state === 'HEALTH_STATE_UNHEALTHY');
	expect(gpuOf(now)?.reasons.map(({ checkId }) => checkId)).toContain('gpu.lost');
	host.driver.set('model h100\ngpus 2');
	await waitFor('it is back', (found) => gpuOf(found)?.state === 'HEALTH_STATE_HEALTHY');
});

test('faults are injected only where the label and the policy of the node allow it; they say so, and they end', async () => {
	const inject = (...more: string[]) =>
		world.run('fault', 'inject', 'gpu-1', 'xid:79', '--gpu', 'GPU-fa4e', '--reason', 'drill', ...more);
	expect((await inject('--gpu', GPU_0)).stderr).toMatch(/only on nodes with the label gpuaas.fault-injection=allowed/);
	await world.run('node', 'label', 'gpu-1', 'gpuaas.fault-injection=allowed');
	const refused = await world.json<{ taskId: string }>(
		...['fault', 'inject', 'gpu-1', 'xid:79', '--gpu', GPU_0, '--reason', 'drill', '--for', '20s'],
	);
	const task = await eventually('the agent answered', async () => {
		const { state, reason } = (
			await world.json<{ task: { state: string; reason: string } }>('task', 'show', refused.taskId)
		).task;
		return state === 'TASK_STATE_REFUSED' && reason;
	});
	expect(task).toBe('POLICY_KIND');
	const policy = join(host.data, 'policy.toml');
	writeFileSync(policy, readFileSync(policy, 'utf8').replace('kinds = ["run"', 'kinds = ["inject_fault", "run"'));
	await host.stop();
	await host.start();
	const sent = await inject('--gpu', GPU_0, '--for', '20s');
	expect(sent.stdout).toMatch(/sent as task/);
	const now = await waitFor('it is judged', (found) => gpuOf(found)?.state === 'HEALTH_STATE_UNHEALTHY');
	expect(gpuOf(now)?.evidence.map(({ raw }) => raw)).toEqual([expect.stringMatching(/injected fault, no real one/)]);
	const over = await waitFor('it is over', (found) => gpuOf(found)?.state === 'HEALTH_STATE_HEALTHY');
	expect(over.glance).toMatchObject({ quarantined: false });
});

test('a driver that hangs is UNKNOWN with the call as evidence, while the host goes on', async () => {
	host.driver.set('model h100\ngpus 2\nhang nvmlDeviceGetFieldValues');
	const now = await waitFor('it is judged', (found) =>
		found.verdicts[0]?.reasons.some(({ checkId }) => checkId === 'probe.hung'),
	);
	expect(now.glance?.state).toBe('HEALTH_STATE_UNKNOWN');
	expect(now.verdicts[0]?.evidence.map(({ raw }) => raw).join()).toMatch(/FieldValues|sample/);
	// Its agent ends with the trouble, and the next finds none: it says so.
	await host.stop();
	host.driver.set('model h100\ngpus 2');
	await host.start();
	await waitFor('it answers again', isState('HEALTHY'));
});

test('a host that says nothing is UNKNOWN, and HEALTHY once it is heard again', async () => {
	await host.stop();
	const now = await waitFor('silence', isState('UNKNOWN'));
	expect(now.verdicts[0]?.reasons).toMatchObject([{ checkId: 'silence' }]);
	expect(await nodeState()).toBe('HEALTH_STATE_UNKNOWN');
	await host.start();
	await waitFor('it is heard', isState('HEALTHY'));
});
