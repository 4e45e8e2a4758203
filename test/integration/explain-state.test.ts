import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { NodePatch } from '../../control-plane/store/port/nodes.ts';
import { AccessService } from '../../proto/gen/gpuaas/iam/v1/access_pb.ts';
import { AssignmentMode, NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { EntitlementService } from '../../proto/gen/gpuaas/quota/v1/quota_pb.ts';
import { TaskService } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { HealthClearing, HealthService } from '../../proto/gen/gpuaas/telemetry/v1/health_pb.ts';
import { HealthFactKind, HealthSubjectKind } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { TelemetryService } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_service_pb.ts';
import { FileService, PortService } from '../../proto/gen/gpuaas/terminals/v1/files_pb.ts';
import { RecordingService } from '../../proto/gen/gpuaas/terminals/v1/recordings_pb.ts';
import { AttachMode, TerminalService } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { insertProject } from '../contract/store/projects.ts';
import { ApiWorld } from './api-world.ts';
import { connectedNode } from './channel-mutations.ts';
import { idOf } from './iam-world.ts';
import { addRecording } from './recordings-world.ts';
import { refusalOf } from './refusal.ts';
import { addTerminal } from './terminal-samples.ts';

/**
 * What Explain says of a node's state is what the call meets there: each row is asked about, then tried, and both end by
 * the same reason at the gate that the row names. With room for few, so that room is met too.
 */
let world: ApiWorld;
let developer: string;
beforeAll(async () => {
	const limits = { tasksOpenPerNodeMax: 2, terminalsOpenPerNodeMax: 3, terminalsOpenPerPersonMax: 1 };
	world = await ApiWorld.start({ api: { connectionsPerAddressMax: 2000 }, limits });
	await world.deps.store.unit((tx) => insertProject(tx, 'acme', 'train'));
	await world
		.client(EntitlementService, world.operatorKey)
		.grantEntitlement({ parent: 'organizations/acme', subject: 'gpu-model/*' });
	developer = await world.addPrincipal('user', 'tenant.developer', 'organizations/acme/projects/train');
});
afterAll(() => world[Symbol.asyncDispose]());

const TASK = { spec: { kind: { case: 'run' as const, value: { argv: ['/bin/true'] } } } };
const SHELL = { spec: { kind: { case: 'shell' as const, value: {} } } };
const TRAIN = { organization: 'acme', project: 'train', mode: AssignmentMode.OPERATOR };
const HOUR = durationFromMs(3_600_000);

function clients(key = world.operatorKey) {
	return {
		access: world.client(AccessService, key),
		nodes: world.client(NodeService, key),
		tasks: world.client(TaskService, key),
		terminals: world.client(TerminalService, key),
		files: world.client(FileService, key),
		ports: world.client(PortService, key),
		health: world.client(HealthService, key),
	};
}
type Clients = ReturnType<typeof clients>;

/** By method: the call about one node. */
const CALLS: Readonly<Record<string, (by: Clients, node: string) => Promise<unknown>>> = {
	CreateTask: ({ tasks }, node) => tasks.createTask({ node, ...TASK }),
	OpenTerminal: ({ terminals }, node) => terminals.openTerminal({ node, ...SHELL }),
	ReadFiles: ({ files }, node) => files.readFiles({ node, path: '/etc/hostname' }),
	WriteFiles: ({ files }, node) => files.writeFiles({ node, path: '/tmp/x' }),
	ForwardPort: ({ ports }, node) => ports.forwardPort({ node, port: 8888 }),
	AssignNode: ({ nodes }, node) => nodes.assignNode({ node, ...TRAIN }),
	UnassignNode: ({ nodes }, node) => nodes.unassignNode({ node }),
	CordonNode: ({ nodes }, node) => nodes.cordonNode({ node, reason: 'odd' }),
	UncordonNode: ({ nodes }, node) => nodes.uncordonNode({ node }),
	DrainNode: ({ nodes }, node) => nodes.drainNode({ node, reason: 'odd' }),
	UnlockNode: ({ nodes }, node) => nodes.unlockNode({ node, reason: 'looked at' }),
	RemoveNode: ({ nodes }, node) => nodes.removeNode({ node, reason: 'sold' }),
	SetNodeHealthOverride: ({ health }, node) =>
		health.setNodeHealthOverride({ node, schedulable: true, reason: 'we know', duration: HOUR }),
	RecordNodeHealthEvidence: ({ health }, node) =>
		health.recordNodeHealthEvidence({ node, clearing: HealthClearing.SERVICED, reason: 'a new GPU' }),
	InjectNodeFault: ({ health }, node) =>
		health.injectNodeFault({
			node,
			faults: [{ kind: HealthFactKind.PROBE_HUNG, subject: { kind: HealthSubjectKind.NODE } }],
			reason: 'drill',
			duration: HOUR,
		}),
};

/** What Explain says of it, and by what the call itself ends. */
async function bothOf(method: string, node: string, key: string) {
	const scope = method === 'AssignNode' ? 'organizations/acme/projects/train' : '';
	const { allowed, reason, gates } = await clients(key).access.explain({ method, resource: `nodes/${node}`, scope });
	const at = gates.findIndex(({ outcome }) => outcome === 'failed');
	expect([allowed, at >= 0], `${method}: ${JSON.stringify(gates)}`).toEqual([false, true]);
	const after = new Set(gates.slice(at + 1).map(({ outcome }) => outcome));
	expect([...after].filter((outcome) => outcome !== 'not reached')).toEqual([]);
	const { reason: met, message } = await refusalOf((CALLS[method] as (typeof CALLS)['x'])(clients(key), node));
	return { gate: gates[at]?.gate, detail: gates[at]?.detail, reason, met, message };
}

async function tenantsNode(): Promise<string> {
	const node = await connectedNode(world);
	await clients().nodes.assignNode({ node, ...TRAIN });
	return node;
}

const patched = (node: string, patch: NodePatch) => world.deps.store.unit((tx) => tx.nodes.update(node, patch));

const WORK = ['CreateTask', 'OpenTerminal', 'ReadFiles', 'WriteFiles', 'ForwardPort'] as const;
const RETIRED = { state: 'retired', retiredAtMs: 1, cordoned: true } as const;
const STATES: readonly (readonly [string, NodePatch, string, string])[] = [
	['locked', { locked: true, lockReason: 'two hosts' }, 'admission', 'NODE_LOCKED'],
	['draining', { state: 'draining', cordoned: true }, 'admission', 'NODE_DRAINING'],
	['cordoned', { cordoned: true }, 'admission', 'NODE_CORDONED'],
	['in transit', { custody: 'transit' }, 'custody', 'NODE_IN_TENANT_CUSTODY'],
	// Of two the first, as the call.
	['locked and in transit', { locked: true, custody: 'transit' }, 'admission', 'NODE_LOCKED'],
	['retired', RETIRED, 'admission', 'NODE_RETIRED'],
];

describe.each(STATES)('a tenant’s node that is %s', (_name, patch, gate, reason) => {
	test.each(WORK)('%s', async (method) => {
		const node = await tenantsNode();
		await patched(node, patch);
		const both = await bothOf(method, node, developer);
		expect(both).toMatchObject({ gate, reason, met: reason });
		expect(both.detail).toBe(both.message);
	});
});

test('a node whose agent is away: what needs it now is refused, a task waits', async () => {
	const { id: node } = await world.addNode();
	await clients().nodes.assignNode({ node, ...TRAIN });
	await patched(node, { cordoned: true });
	for (const method of WORK.filter((name) => name !== 'CreateTask'))
		expect(await bothOf(method, node, developer), method).toMatchObject({
			gate: 'connection',
			reason: 'NODE_UNREACHABLE',
			met: 'NODE_UNREACHABLE',
		});
	await patched(node, { cordoned: false });
	const asked = { method: 'CreateTask', resource: `nodes/${node}` };
	expect((await clients(developer).access.explain(asked)).allowed).toBe(true);
	await clients(developer).tasks.createTask({ node, ...TASK });
});

test('room: of the node’s tasks, of its terminals, and of one person’s; nobody reads how many others have', async () => {
	const node = await tenantsNode();
	const asked = { method: 'CreateTask', resource: `nodes/${node}` };
	await clients(developer).tasks.createTask({ node, ...TASK });
	const { gates } = await clients(developer).access.explain(asked);
	expect(gates.find(({ gate }) => gate === 'room')?.detail).toBe('the node has room for one more task');
	await clients(developer).tasks.createTask({ node, ...TASK });
	expect(await bothOf('CreateTask', node, developer)).toMatchObject({
		gate: 'room',
		reason: 'QUEUE_FULL',
		met: 'QUEUE_FULL',
	});

	await clients(developer).terminals.openTerminal({ node, ...SHELL });
	const ofPerson = await bothOf('OpenTerminal', node, developer);
	expect(ofPerson).toMatchObject({ gate: 'room', reason: 'TOO_MANY_TERMINALS', met: 'TOO_MANY_TERMINALS' });
	expect(ofPerson.detail).toContain('as many as one person may');
	for (let more = 0; more < 2; more += 1) await clients().terminals.openTerminal({ node, ...SHELL });
	const ofNode = await bothOf('OpenTerminal', node, world.operatorKey);
	expect(ofNode).toMatchObject({ gate: 'room', reason: 'TOO_MANY_TERMINALS', met: 'TOO_MANY_TERMINALS' });
	expect(ofNode.detail).toContain('the node has 3 open terminals');
});

describe('what the platform does with a node', () => {
	const ON_THERE = [
		...['AssignNode', 'CordonNode', 'UncordonNode', 'DrainNode', 'UnlockNode', 'RemoveNode'],
		...['SetNodeHealthOverride', 'RecordNodeHealthEvidence', 'InjectNodeFault'],
	];
	test.each(ON_THERE)('%s of one that was removed', async (method) => {
		const { id } = await world.addNode(RETIRED);
		expect(await bothOf(method, id, world.operatorKey)).toMatchObject({
			gate: 'node',
			reason: 'NODE_RETIRED',
			met: 'NODE_RETIRED',
		});
	});

	const nodeWith = async (patch: Parameters<ApiWorld['addNode']>[0]) => (await world.addNode(patch)).id;
	const CASES: readonly (readonly [string, string, () => Promise<string>, string, string])[] = [
		['AssignNode', 'has a holder', tenantsNode, 'assignment', 'NODE_ALREADY_ASSIGNED'],
		['AssignNode', 'in transit', () => nodeWith({ custody: 'transit' }), 'custody', 'NODE_IN_TENANT_CUSTODY'],
		['AssignNode', 'locked', () => nodeWith({ locked: true }), 'admission', 'NODE_LOCKED'],
		['AssignNode', 'draining', () => nodeWith({ state: 'draining', cordoned: true }), 'admission', 'NODE_DRAINING'],
		['AssignNode', 'cordoned', () => nodeWith({ cordoned: true }), 'admission', 'NODE_CORDONED'],
		['AssignNode', 'held back', heldNode, 'health', 'NODE_HELD'],
		['UnassignNode', 'free', () => nodeWith({}), 'assignment', 'NODE_NOT_ASSIGNED'],
		['DrainNode', 'draining', drainingNode, 'drain', 'NODE_DRAINING'],
		['InjectNodeFault', 'without the label', () => nodeWith({}), 'label', 'FAULT_INJECTION_FORBIDDEN'],
		[
			'InjectNodeFault',
			'in transit',
			() => nodeWith({ custody: 'transit', labels: { 'gpuaas.fault-injection': 'allowed' } }),
			'custody',
			'NODE_IN_TENANT_CUSTODY',
		],
		[
			'RecordNodeHealthEvidence',
			'in transit',
			() => nodeWith({ custody: 'transit' }),
			'custody',
			'HEALTH_EVIDENCE_INVALID',
		],
	];
	test.each(CASES)('%s of one that is %s', async (method, _is, make, gate, reason) => {
		const both = await bothOf(method, await make(), world.operatorKey);
		expect(both).toMatchObject({ gate, reason, met: reason });
		expect(both.detail).toBe(both.message);
	});

	async function heldNode(): Promise<string> {
		const { id: node } = await world.addNode();
		await clients().health.setNodeHealthOverride({ node, schedulable: false, reason: 'odd', duration: HOUR });
		return node;
	}

	async function drainingNode(): Promise<string> {
		const { id: node } = await world.addNode();
		await clients().nodes.drainNode({ node, reason: 'odd' });
		return node;
	}

	test('an assignment in host mode would meet what is open on the node; the trace says so', async () => {
		const node = await connectedNode(world);
		await clients().tasks.createTask({ node, ...TASK });
		const asked = { method: 'AssignNode', resource: `nodes/${node}`, scope: 'organizations/acme/projects/train' };
		const { allowed, gates } = await clients().access.explain(asked);
		expect(allowed).toBe(true);
		// The mode is the request's: so this gate is neither passed nor failed.
		const idle = gates.find(({ gate }) => gate === 'idle');
		expect(idle?.outcome).toBe('not asked');
		expect(idle?.detail).toContain('in host mode it would be refused (NODE_BUSY)');
		const order = [
			'node',
			'assignment',
			'custody',
			'admission',
			'health',
			'vacancy',
			'destination',
			'idle',
			'entitlement',
			'quota',
		];
		expect(gates.slice(7).map(({ gate }) => gate)).toEqual(order);
	});
});

test('sharing a terminal: whose it is, and whether it is open', async () => {
	const node = await connectedNode(world);
	const guest = await world.addPrincipal('user', 'platform.operator', 'platform');
	const share = (terminalId: string, key: string) =>
		clients(key).terminals.shareTerminal({ terminalId, principalId: idOf(guest), mode: AttachMode.OBSERVE });
	const { terminal } = await clients().terminals.openTerminal({ node, ...SHELL });
	const closed = await addTerminal(world, node, idOf(guest));
	for (const [terminalId, gate, reason] of [
		[terminal?.id ?? '', 'opener', 'TERMINAL_NOT_SHARED'],
		[closed, 'state', 'TERMINAL_ENDED'],
	] as const) {
		const asked = { method: 'ShareTerminal', resource: `terminals/${terminalId}` };
		const { reason: explained, gates } = await clients(guest).access.explain(asked);
		const failed = gates.find(({ outcome }) => outcome === 'failed');
		expect([failed?.gate, explained]).toEqual([gate, reason]);
		expect((await refusalOf(share(terminalId, guest))).reason).toBe(reason);
	}
});

test('attaching and observing: who opened it, with whom it is shared and for what, whether it has ended', async () => {
	const node = await tenantsNode();
	const project = 'organizations/acme/projects/train';
	const opener = clients(await world.addPrincipal('user', 'tenant.developer', project));
	const guest = await world.addPrincipal('user', 'tenant.developer', project);
	const by = clients(guest);
	const asked = (method: string, id: string) => by.access.explain({ method, resource: `terminals/${id}` });
	const verdict = async (method: string, id: string) => {
		const { allowed, reason, gates } = await asked(method, id);
		return [allowed, reason, gates.find(({ gate }) => gate === 'attendance')?.outcome];
	};
	const met = async (id: string, mode: AttachMode) => {
		const requests = (async function* () {
			yield { terminalId: id, message: { case: 'attach' as const, value: { mode } } };
		})();
		const first = by.terminals.attachTerminal(requests)[Symbol.asyncIterator]().next();
		return (await refusalOf(first)).reason;
	};
	const { terminal } = await opener.terminals.openTerminal({ node, ...SHELL });
	const id = terminal?.id ?? '';
	for (const method of ['AttachTerminal', 'ObserveTerminal'])
		expect(await verdict(method, id)).toEqual([false, 'TERMINAL_NOT_SHARED', 'failed']);
	expect(await met(id, AttachMode.OBSERVE)).toBe('TERMINAL_NOT_SHARED');
	await opener.terminals.shareTerminal({ terminalId: id, principalId: idOf(guest), mode: AttachMode.OBSERVE });
	expect(await verdict('ObserveTerminal', id)).toEqual([true, '', 'passed']);
	// To look on or to type: the request says which.
	expect(await verdict('AttachTerminal', id)).toEqual([true, '', 'not asked']);
	expect(await met(id, AttachMode.CONTROL)).toBe('TERMINAL_NOT_SHARED');
	const ended = await addTerminal(world, node);
	expect(await verdict('AttachTerminal', ended)).toEqual([false, 'TERMINAL_ENDED', 'failed']);
	expect(await met(ended, AttachMode.OBSERVE)).toBe('TERMINAL_ENDED');
});

test('a recording whose content is gone, and a node that can’t be sampled faster', async () => {
	const node = await tenantsNode();
	const recordingId = await addRecording(world, node);
	const holding = { method: 'HoldRecording', resource: `recordings/${recordingId}` };
	const releasing = { ...holding, method: 'ReleaseRecording' };
	const recordings = world.client(RecordingService, world.operatorKey);
	const { access } = clients();
	expect((await access.explain(holding)).allowed).toBe(true);
	await world.deps.store.unit((tx) => tx.recordings.update(recordingId, { state: 'purged', purgedAtMs: 1 }, 'sealed'));
	const refused = await refusalOf(recordings.holdRecording({ recordingId, reason: 'too late' }));
	expect([(await access.explain(holding)).reason, refused.reason]).toEqual(['RECORDING_PURGED', 'RECORDING_PURGED']);
	expect((await access.explain(releasing)).reason).toBe('RECORDING_PURGED');

	const { id: away } = await world.addNode();
	const fast = { method: 'RequestFastTelemetry', resource: `nodes/${away}` };
	const telemetry = world.client(TelemetryService, world.operatorKey);
	expect((await access.explain(fast)).reason).toBe('TELEMETRY_NODE_AWAY');
	expect((await refusalOf(telemetry.requestFastTelemetry({ node: away }))).reason).toBe('TELEMETRY_NODE_AWAY');
});

test('of somebody else a tenant learns the verdict; how many terminals they have elsewhere stays theirs', async () => {
	const busy = await world.addPrincipal('user', 'tenant.developer', 'organizations/acme/projects/train');
	const admin = await world.addPrincipal('operator', 'tenant.admin', 'organizations/acme/projects/train');
	const node = await tenantsNode();
	const asked = { method: 'OpenTerminal', resource: `nodes/${node}`, principalId: idOf(busy) };
	const room = async (key: string) =>
		(await clients(key).access.explain(asked)).gates.find(({ gate }) => gate === 'room')?.detail;
	expect(await room(busy)).toContain('0 of 1 open');
	expect(await room(admin)).toBe('they would pass');
	expect(await room(world.operatorKey)).toContain('0 of 1 open');
});
