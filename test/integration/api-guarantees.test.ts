import { generateKeyPairSync } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { API_SERVICES } from '../../control-plane/api/methods.ts';
import { checkedPolicy } from '../../control-plane/app/iam/method-policy.ts';
import { advanceDrains } from '../../control-plane/workflows/drain.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { joinTokenPublicKey, parseJoinToken } from '../../pki/keys/join-token.ts';
import { ApprovalService } from '../../proto/gen/gpuaas/approvals/v1/approvals_pb.ts';
import { BreakGlassKeyKind, BreakGlassService } from '../../proto/gen/gpuaas/break_glass/v1/break_glass_pb.ts';
import { CertificateService, RotationStep } from '../../proto/gen/gpuaas/certificates/v1/certificates_pb.ts';
import { AuditClass } from '../../proto/gen/gpuaas/common/v1/policy_pb.ts';
import { LoginService } from '../../proto/gen/gpuaas/login/v1/login_pb.ts';
import { AssignmentMode, NodeService, NodeState } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { OperationService, OperationState } from '../../proto/gen/gpuaas/operations/v1/operations_pb.ts';
import { TaskService, TaskSpecSchema, TaskState } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { TokenService } from '../../proto/gen/gpuaas/tokens/v1/tokens_pb.ts';
import { assignmentRow } from '../contract/store/rows.ts';
import { rawSqlite } from '../contract/store/stores.ts';
import { eventually } from '../eventually.ts';
import { NEEDS_MORE_THAN_A_KEY } from './api-samples.ts';
import { ApiWorld } from './api-world.ts';
import { channelMutations } from './channel-mutations.ts';
import { quotaMutations } from './quota-mutations.ts';
import { refusalOf } from './refusal.ts';
import { addTerminal } from './terminal-samples.ts';

let world: ApiWorld;
beforeAll(async () => {
	// What was refused is counted until a test asks for it.
	world = await ApiWorld.start({
		oidc: { issuers: ['https://id.example'] },
		refusalsClock: new VirtualClock(systemClock.now()),
	});
});
afterAll(() => world[Symbol.asyncDispose]());

const RUN = create(TaskSpecSchema, { kind: { case: 'run', value: { argv: ['/bin/echo', 'a secret plan'] } } });
const operator = () => ({
	nodes: world.client(NodeService, world.operatorKey),
	tasks: world.client(TaskService, world.operatorKey),
	tokens: world.client(TokenService, world.operatorKey),
	operations: world.client(OperationService, world.operatorKey),
	certificates: world.client(CertificateService, world.operatorKey),
});

describe('audit', () => {
	/** One successful call of every mutation: what it needs first, then the call itself. */
	const MUTATIONS: Record<string, () => Promise<() => Promise<unknown>>> = {
		SetNodeLabels: async () => {
			const node = await world.addNode();
			return () => operator().nodes.setNodeLabels({ node: node.id, labels: { a: 'b' }, etag: 'v1' });
		},
		CordonNode: async () => {
			const node = await world.addNode();
			return () => operator().nodes.cordonNode({ node: node.id, reason: 'fan' });
		},
		UncordonNode: async () => {
			const node = await world.addNode({ cordoned: true });
			return () => operator().nodes.uncordonNode({ node: node.id });
		},
		DrainNode: async () => {
			const node = await world.addNode();
			return () => operator().nodes.drainNode({ node: node.id });
		},
		AssignNode: async () => {
			const node = await world.addNode();
			return () =>
				operator().nodes.assignNode({
					node: node.id,
					organization: 'acme',
					project: 'train',
					mode: AssignmentMode.SLICE,
				});
		},
		UnassignNode: async () => {
			const node = await world.addNode();
			await operator().nodes.assignNode({
				node: node.id,
				organization: 'acme',
				project: 'train',
				mode: AssignmentMode.OPERATOR,
			});
			for (let index = 0; index < 3; index += 1) await operator().tasks.createTask({ node: node.id, spec: RUN });
			return () => operator().nodes.unassignNode({ node: node.id });
		},
		UnlockNode: async () => {
			const node = await world.addNode({ locked: true, lockReason: 'clone' });
			return () => operator().nodes.unlockNode({ node: node.id, reason: 'looked' });
		},
		RemoveNode: async () => {
			const node = await world.addNode();
			for (let index = 0; index < 3; index += 1) await operator().tasks.createTask({ node: node.id, spec: RUN });
			return () => operator().nodes.removeNode({ node: node.id });
		},
		CreateTask: async () => {
			const node = await world.addNode();
			return () => operator().tasks.createTask({ node: node.id, spec: RUN });
		},
		CancelTask: async () => {
			const node = await world.addNode();
			const { task } = await operator().tasks.createTask({ node: node.id, spec: RUN });
			return () => operator().tasks.cancelTask({ taskId: task?.id ?? '' });
		},
		CancelOperation: async () => {
			const node = await world.addNode();
			const { operationId } = await operator().nodes.drainNode({ node: node.id });
			return () => operator().operations.cancelOperation({ operationId });
		},
		CreateApproval: async () => () =>
			world.client(ApprovalService, world.operatorKey).createApproval({
				method: 'gpuaas.tokens.v1.TokenService/CreateToken',
				requestJson: '{}',
				reason: 'rack 7',
			}),
		CreateLoginDomain: async () => () =>
			world.client(LoginService, world.operatorKey).createLoginDomain({
				issuer: 'https://id.example',
				domain: 'acme.example',
				organization: 'acme',
			}),
		DeleteLoginDomain: async () => {
			const client = world.client(LoginService, world.operatorKey);
			const named = { issuer: 'https://id.example', domain: 'gone.example', organization: 'acme' };
			const { loginDomain } = await client.createLoginDomain(named);
			return () => client.deleteLoginDomain({ id: loginDomain?.id ?? '' });
		},
		RegisterBreakGlassKey: async () => {
			const publicKey = generateKeyPairSync('ed25519').publicKey.export({ format: 'der', type: 'spki' });
			const client = world.client(BreakGlassService, world.operatorKey);
			return () => client.registerBreakGlassKey({ name: 'safe', kind: BreakGlassKeyKind.ED25519, publicKey });
		},
		RemoveBreakGlassKey: async () => {
			const publicKey = generateKeyPairSync('ed25519').publicKey.export({ format: 'der', type: 'spki' });
			const client = world.client(BreakGlassService, world.operatorKey);
			const { key } = await client.registerBreakGlassKey({ name: 'old', kind: BreakGlassKeyKind.ED25519, publicKey });
			return () => client.removeBreakGlassKey({ id: key?.id ?? '' });
		},
		CreateToken: async () => () => operator().tokens.createToken({}),
		RevokeToken: async () => {
			const { token } = await operator().tokens.createToken({});
			return () => operator().tokens.revokeToken({ tokenId: token?.id ?? '' });
		},
		RevokeCertificate: async () => {
			const serial = 'ab'.repeat(16);
			const nowMs = world.deps.clock.now();
			await world.deps.store.unit((tx) =>
				tx.certificates.insert({
					serial,
					kind: 'node',
					subjectId: 'n',
					state: 'current',
					spkiSha256: '',
					issuerKeyId: '',
					generation: 1,
					notBeforeMs: nowMs,
					notAfterMs: nowMs + 3_600_000,
					issuedAtMs: nowMs,
					firstUsedAtMs: null,
					revokedAtMs: null,
					revocationReason: '',
					der: new Uint8Array(1),
				}),
			);
			return () => operator().certificates.revokeCertificate({ serial, reason: 'copied' });
		},
		RotateCertificateAuthority: async () => () =>
			operator().certificates.rotateCertificateAuthority({ step: RotationStep.PREPARE, reason: 'drill' }),
		...channelMutations(() => world),
		...quotaMutations(() => world),
	};

	const mutations = API_SERVICES.flatMap((service) => service.methods)
		.filter(({ name }) => !(name in NEEDS_MORE_THAN_A_KEY) && !/^(Approve|Reject)Approval$/.test(name))
		// iam-audit.test.ts has those of identity and access.
		.filter(({ parent }) => !parent.typeName.startsWith('gpuaas.iam.'))
		.filter((method) =>
			[AuditClass.MUTATION, AuditClass.PRIVILEGED].some((audit) => audit === checkedPolicy(method).audit),
		);

	test.each(mutations.map((method) => [method.name, method] as const))(
		'%s leaves exactly one record',
		async (name, method) => {
			const act = await present(MUTATIONS[name], `a successful call of ${name}`)();
			const before = await world.audit();
			const waited = world.heads.waitedFor.length;
			await act();
			const fresh = (await world.audit()).slice(before.length);
			expect(fresh).toHaveLength(1);
			expect(fresh[0]).toMatchObject({
				result: 'ok',
				method: checkedPolicy(method).name,
				actor: { id: 'bootstrap-operator' },
			});
			const isPrivileged = checkedPolicy(method).audit === AuditClass.PRIVILEGED;
			expect(world.heads.waitedFor.slice(waited)).toEqual(isPrivileged ? [fresh[0]?.id] : []);
		},
	);

	test('a change whose record cannot be written does not happen', async () => {
		const node = await world.addNode();
		const path = join(world.folder, 'store.db');
		const refuse = `BEGIN SELECT RAISE(ABORT, 'no record'); END`;
		rawSqlite(path, `CREATE TRIGGER no_record BEFORE INSERT ON audit_leaves ${refuse}`);
		try {
			await refusalOf(operator().nodes.cordonNode({ node: node.id, reason: 'fan' }));
			await refusalOf(operator().tokens.createToken({ nodeName: 'unrecorded' }));
		} finally {
			rawSqlite(path, 'DROP TRIGGER no_record');
		}
		expect((await operator().nodes.getNode({ node: node.id })).node?.cordoned).toBe(false);
		const { tokens } = await operator().tokens.listTokens({ pageSize: 1000 });
		expect(tokens.filter(({ nodeName }) => nodeName === 'unrecorded')).toEqual([]);
	});

	test('what a person typed stands there only as a commitment, and env not at all', async () => {
		const node = await world.addNode();
		const before = (await world.audit()).length;
		const spec = {
			kind: { case: 'run' as const, value: { argv: ['/bin/echo', 'hush hush'], env: { API_TOKEN: 'top secret' } } },
		};
		await operator().tasks.createTask({ node: node.id, spec });
		const [record] = (await world.audit()).slice(before);
		expect(JSON.stringify(record)).not.toMatch(/hush|top secret|API_TOKEN/);
		expect(record?.personal.argv).toMatch(/^[0-9a-f]{64}$/);
	});

	test('a refused mutation is recorded once a minute, however often it is tried', async () => {
		const key = await world.addPrincipal('user', 'platform.viewer', 'platform');
		const client = world.client(TokenService, key);
		// The minute begins here, and not in the middle.
		await world.deps.refusals.flush();
		const before = (await world.audit()).length;
		for (let index = 0; index < 5; index += 1) await refusalOf(client.createToken({}));
		expect((await world.audit()).slice(before)).toMatchObject([
			{ action: 'tokens.create', result: 'denied', reason: 'PERMISSION_DENIED' },
		]);
		await world.deps.refusals.flush();
		expect((await world.audit()).slice(before + 1)).toMatchObject([
			{ action: 'tokens.create', detail: { coalesced: 4 } },
		]);
	});

	test('a mutation that the state refuses is recorded as failed; a read that works is not recorded', async () => {
		const node = await world.addNode({ cordoned: true });
		const before = (await world.audit()).length;
		await refusalOf(operator().tasks.createTask({ node: node.id, spec: RUN }));
		await operator().nodes.getNode({ node: node.id });
		expect((await world.audit()).slice(before)).toMatchObject([
			{ action: 'tasks.create', target: `nodes/${node.id}`, result: 'failed', reason: 'NODE_CORDONED' },
		]);
	});
});

describe('request ids', () => {
	test('a retry of a privileged call waits for the signed head of the first try', async () => {
		const node = await world.addNode();
		const mode = AssignmentMode.OPERATOR;
		const request = { node: node.id, organization: 'acme', project: 'train', mode, requestId: 'privileged' };
		const before = world.heads.waitedFor.length;
		const first = await operator().nodes.assignNode(request);
		expect(await operator().nodes.assignNode(request)).toEqual(first);
		const [leaf, ...others] = world.heads.waitedFor.slice(before);
		expect(others).toEqual([leaf]);
	});

	test('the same request again gets the first answer, and nothing happens twice', async () => {
		const node = await world.addNode();
		const { tasks } = operator();
		const first = await tasks.createTask({ node: node.id, spec: RUN, requestId: 'r1' });
		const records = (await world.audit()).length;
		await operator().nodes.cordonNode({ node: node.id });
		// Also when it would be refused by now: the answer is that of then.
		expect(await tasks.createTask({ node: node.id, spec: RUN, requestId: 'r1' })).toEqual(first);
		expect((await world.audit()).length).toBe(records + 1);
		expect((await tasks.listTasks({ node: node.id })).tasks).toHaveLength(1);
	});

	test('another request under the same id is refused', async () => {
		const node = await world.addNode();
		const { tasks } = operator();
		await tasks.createTask({ node: node.id, spec: RUN, requestId: 'r2' });
		const other = tasks.createTask({ node: node.id, spec: RUN, requestId: 'r2', batchId: 'other' });
		expect(await refusalOf(other)).toMatchObject({ code: 'FailedPrecondition', reason: 'REQUEST_ID_REUSED' });
		expect((await tasks.listTasks({ node: node.id })).tasks).toHaveLength(1);
	});

	test('the order of a map is not another request', async () => {
		const node = await world.addNode();
		const { tasks } = operator();
		const spec = (env: Record<string, string>) => ({
			kind: { case: 'run' as const, value: { argv: ['/bin/true'], env } },
		});
		const first = await tasks.createTask({ node: node.id, spec: spec({ A: '1', B: '2' }), requestId: 'r3' });
		expect(await tasks.createTask({ node: node.id, spec: spec({ B: '2', A: '1' }), requestId: 'r3' })).toEqual(first);
	});

	test('twenty at once have one effect and one answer', async () => {
		const node = await world.addNode();
		const { tasks } = operator();
		const calls = Array.from({ length: 20 }, () => tasks.createTask({ node: node.id, spec: RUN, requestId: 'r4' }));
		const ids = new Set((await Promise.all(calls)).map(({ task }) => task?.id));
		expect(ids.size).toBe(1);
		expect((await tasks.listTasks({ node: node.id })).tasks).toHaveLength(1);
	});

	test('another principal’s id is another id', async () => {
		const node = await world.addNode();
		const key = await world.addPrincipal('service_account', 'platform.operator', 'platform');
		const mine = await operator().tasks.createTask({ node: node.id, spec: RUN, requestId: 'r5' });
		const theirs = await world.client(TaskService, key).createTask({ node: node.id, spec: RUN, requestId: 'r5' });
		expect(theirs.task?.id).not.toBe(mine.task?.id);
	});
});

describe('secrets', () => {
	test('what a task is given in env is shown to nobody, nor kept with an answer; the node gets it', async () => {
		const node = await world.addNode();
		const { tasks } = operator();
		const spec = { kind: { case: 'run' as const, value: { argv: ['/bin/true'], env: { API_TOKEN: 'top secret' } } } };
		const created = await tasks.createTask({ node: node.id, spec, requestId: 'hush' });
		const taskId = present(created.task, 'a task').id;
		const again = await tasks.createTask({ node: node.id, spec, requestId: 'hush' });
		expect(again).toEqual(created);
		const shown = [
			created.task,
			(await tasks.getTask({ taskId })).task,
			...(await tasks.listTasks({ node: node.id })).tasks,
		];
		for await (const { event } of tasks.followTask({ taskId })) {
			if (event.case !== 'task') continue;
			shown.push(event.value);
			break;
		}
		shown.push((await tasks.cancelTask({ taskId })).task);
		expect(shown).toHaveLength(5);
		for (const task of shown) expect(task?.spec?.kind.value).toMatchObject({ env: { API_TOKEN: '[redacted]' } });
		const kept = await world.deps.store.read(function* (tx) {
			const key = yield* tx.requestKeys.get('bootstrap-operator', 'gpuaas.tasks.v1.TaskService/CreateTask', 'hush');
			return { key, row: yield* tx.tasks.get(taskId) };
		});
		const answer = Buffer.from(present(kept.key, 'the kept answer').response).toString('latin1');
		expect(answer).toContain('API_TOKEN');
		expect(answer).not.toContain('top secret');
		expect(Buffer.from(present(kept.row, 'the row').spec).toString('latin1')).toContain('top secret');
	});

	test('a join token’s secret is in no file of the database, in no form', async () => {
		const { joinToken, token } = await operator().tokens.createToken({ nodeName: 'gpu-secret' });
		const parsed = parseJoinToken(joinToken);
		if (parsed.kind !== 'ok') throw new Error('the token can be read');
		const secret = Buffer.from(parsed.token.secret);
		const files = readdirSync(world.folder).filter((name) => name.startsWith('store.db'));
		expect(files).toContain('store.db-wal');
		const stored = Buffer.concat(files.map((name) => readFileSync(join(world.folder, name))));
		// What is meant to be there is: this looks at the right bytes.
		expect(stored.includes(present(token, 'the token').id)).toBe(true);
		expect(stored.includes(Buffer.from(joinTokenPublicKey(secret)))).toBe(true);
		const forms = [
			secret,
			...(['base64url', 'base64', 'hex'] as const).map((form) => secret.toString(form)),
			joinToken,
		];
		expect(forms.filter((form) => stored.includes(form))).toEqual([]);
	});

	test('a join token ends after ten minutes where nothing else was asked for', async () => {
		const lifeS = async (ttl?: { seconds: bigint }) => {
			const { token } = await operator().tokens.createToken(ttl === undefined ? {} : { ttl });
			const { createdAt, expiresAt } = present(token, 'the token');
			return present(expiresAt, 'an end').seconds - present(createdAt, 'a beginning').seconds;
		};
		expect(await lifeS()).toBe(600n);
		expect(await lifeS({ seconds: 60n })).toBe(60n);
	});

	test('a join token is still shown when it is made', async () => {
		expect((await operator().tokens.createToken({})).joinToken).toMatch(/^[^[]{30,}$/);
	});
});

describe('drain', () => {
	test('waits for what runs, stops it at the deadline, and leaves the node cordoned', async () => {
		const node = await world.addNode();
		const { nodes, tasks, operations } = operator();
		const queued = present((await tasks.createTask({ node: node.id, spec: RUN })).task, 'a task');
		const patient = await nodes.drainNode({ node: node.id, reason: 'new kernel' });
		expect(patient.node).toMatchObject({ state: NodeState.DRAINING, cordoned: true });
		expect(await refusalOf(tasks.createTask({ node: node.id, spec: RUN }))).toMatchObject({ reason: 'NODE_DRAINING' });
		await advanceDrains(world.deps);
		const waiting = await operations.getOperation({ operationId: patient.operationId });
		expect(waiting.operation).toMatchObject({
			state: OperationState.RUNNING,
			progress: expect.stringContaining('1 open'),
		});
		await operations.cancelOperation({ operationId: patient.operationId });
		expect((await nodes.getNode({ node: node.id })).node).toMatchObject({ state: NodeState.AVAILABLE, cordoned: true });

		const impatient = await nodes.drainNode({ node: node.id, deadline: { seconds: 0n, nanos: 0 } });
		await advanceDrains(world.deps);
		await advanceDrains(world.deps);
		expect((await tasks.getTask({ taskId: queued.id })).task).toMatchObject({
			state: TaskState.CANCELLED,
			reason: 'NODE_DRAINING',
		});
		expect((await operations.getOperation({ operationId: impatient.operationId })).operation?.state).toBe(
			OperationState.SUCCEEDED,
		);
		expect((await nodes.getNode({ node: node.id })).node).toMatchObject({ state: NodeState.AVAILABLE, cordoned: true });
	});

	test('a task that the agent has is told to stop, and the drain waits for its end', async () => {
		const node = await world.addNode();
		const { nodes, tasks, operations } = operator();
		const task = present((await tasks.createTask({ node: node.id, spec: RUN })).task, 'a task');
		await world.deps.store.unit((tx) => tx.tasks.update(task.id, { state: 'running', attempt: 1 }));
		const { operationId } = await nodes.drainNode({ node: node.id, deadline: { seconds: 0n, nanos: 0 } });
		await advanceDrains(world.deps);
		await advanceDrains(world.deps);
		expect((await tasks.getTask({ taskId: task.id })).task?.state).toBe(TaskState.CANCELLING);
		expect((await operations.getOperation({ operationId })).operation?.state).toBe(OperationState.RUNNING);
		await world.deps.store.unit((tx) => tx.tasks.update(task.id, { state: 'cancelled', endedAtMs: 1 }));
		await advanceDrains(world.deps);
		expect((await operations.getOperation({ operationId })).operation?.state).toBe(OperationState.SUCCEEDED);
	});
});

describe('terminals', () => {
	test('hold a drain until its deadline, which ends them, and a handover to a tenant who gets root', async () => {
		const node = await world.addNode();
		const { nodes, operations } = operator();
		const terminalId = await addTerminal(world, node.id, 'ada', { state: 'open', closedAtMs: null });
		const project = { node: node.id, organization: 'acme', project: 'train', mode: AssignmentMode.HOST };
		expect(await refusalOf(nodes.assignNode(project))).toMatchObject({ reason: 'NODE_BUSY' });
		const patient = await nodes.drainNode({ node: node.id });
		await advanceDrains(world.deps);
		const why = await nodes.explainNode({ node: node.id });
		expect(why.explanations.find(({ subject }) => subject === 'drain')?.finding).toContain('1 terminals');
		expect(why.explanations.find(({ subject }) => subject === 'terminals')?.finding).toBe('1 open');
		await operations.cancelOperation({ operationId: patient.operationId });
		const { operationId } = await nodes.drainNode({ node: node.id, deadline: { seconds: 0n, nanos: 0 } });
		await advanceDrains(world.deps);
		expect(await world.deps.store.read((tx) => tx.terminals.get(terminalId))).toMatchObject({
			state: 'closed',
			reason: 'NODE_DRAINING',
		});
		expect((await operations.getOperation({ operationId })).operation?.state).toBe(OperationState.SUCCEEDED);
	});
});

describe('removing a node', () => {
	test('revokes its certificates, ends its tasks with closings, and hides its name', async () => {
		const node = await world.addNode();
		const { nodes, tasks } = operator();
		const task = present((await tasks.createTask({ node: node.id, spec: RUN })).task, 'a task');
		const running = present((await tasks.createTask({ node: node.id, spec: RUN })).task, 'a task');
		await world.deps.store.unit((tx) => tx.tasks.update(running.id, { state: 'running', attempt: 1 }));
		expect((await nodes.removeNode({ node: node.id, reason: 'sold' })).node?.state).toBe(NodeState.RETIRED);
		expect((await tasks.getTask({ taskId: task.id })).task).toMatchObject({
			state: TaskState.CANCELLED,
			reason: 'NODE_REMOVED',
		});
		expect((await tasks.getTask({ taskId: running.id })).task).toMatchObject({
			state: TaskState.LOST,
			reason: 'NODE_REMOVED',
		});
		expect((await tasks.getTaskReceipt({ taskId: running.id })).closing).toBeDefined();
		expect(await refusalOf(nodes.getNode({ node: node.name }))).toMatchObject({ reason: 'NODE_NOT_FOUND' });
		expect(await refusalOf(tasks.createTask({ node: node.id, spec: RUN }))).toMatchObject({ reason: 'NODE_RETIRED' });
		expect(await refusalOf(nodes.removeNode({ node: node.id }))).toMatchObject({ reason: 'NODE_RETIRED' });
		expect((await nodes.explainNode({ node: node.id })).explanations.length).toBeGreaterThan(2);
	});

	test('ends every assignment that is open, also those of its slices', async () => {
		const node = await world.addNode();
		const slices = ['mig-1', 'mig-2'];
		await world.deps.store.unit(function* (tx) {
			for (const sliceId of slices)
				yield* tx.assignments.insert(assignmentRow(`of-${sliceId}`, node.id, { sliceId, mode: 'slice' }));
		});
		const told: string[] = [];
		const unsubscribe = world.deps.bus.subscribe('assignments.ended', ({ key }) => told.push(key));
		await operator().nodes.removeNode({ node: node.id });
		unsubscribe();
		expect(await world.deps.store.read((tx) => tx.assignments.openOfNodes([node.id]))).toEqual([]);
		expect(told).toEqual(['of-mig-1', 'of-mig-2']);
	});
});

describe('following a task', () => {
	test('sends states and output as they come, from an offset, and ends when all is sent', async () => {
		const node = await world.addNode();
		const { tasks } = operator();
		const task = present((await tasks.createTask({ node: node.id, spec: RUN })).task, 'a task');
		const events: string[] = [];
		const followed = (async () => {
			for await (const { event } of tasks.followTask({ taskId: task.id, offset: 2n })) {
				if (event.case === 'task') events.push(`state ${event.value.state}`);
				if (event.case === 'output') events.push(Buffer.from(event.value.data).toString());
			}
		})();
		await eventually('the first state', () => events.length === 1);
		const { store, output, bus } = world.deps;
		await store.unit((tx) => tx.tasks.update(task.id, { state: 'running', attempt: 1, startedAtMs: 1 }));
		bus.publish({ topic: 'tasks.changed', key: task.id });
		await eventually('the second state', () => events.length === 2);
		await output.append(
			task.id,
			1,
			[{ offset: 0, stream: 'stdout', data: Buffer.from('hello'), droppedBytes: 0 }],
			1 << 20,
		);
		bus.publish({ topic: 'tasks.output', key: task.id });
		await eventually('output', () => events.includes('llo'));
		// Without a hint: losing one costs time only.
		await output.append(
			task.id,
			1,
			[{ offset: 5, stream: 'stderr', data: Buffer.from('bye'), droppedBytes: 0 }],
			1 << 20,
		);
		await store.unit((tx) =>
			tx.tasks.update(task.id, { state: 'succeeded', endedAtMs: 2, exitCode: 0, outputComplete: true }),
		);
		await followed;
		expect(events).toEqual(['state 1', 'state 3', 'llo', 'bye', 'state 5']);
		const listed = await tasks.listTaskOutput({ taskId: task.id, offset: 1n });
		expect(listed).toMatchObject({ nextOffset: 8n, complete: true });
	});

	test('a follower whose key is revoked is cut off', async () => {
		const node = await world.addNode();
		const key = await world.addPrincipal('user', 'platform.operator', 'platform');
		const tasks = world.client(TaskService, key);
		const task = present((await tasks.createTask({ node: node.id, spec: RUN })).task, 'a task');
		let seen = 0;
		const followed = (async () => {
			for await (const _ of tasks.followTask({ taskId: task.id })) seen += 1;
		})();
		const ended = refusalOf(followed);
		await eventually('the first state', () => seen === 1);
		await world.deps.store.unit((tx) => tx.apiKeys.revokeCredential(key.split('_')[3] ?? '', world.deps.clock.now()));
		expect(await ended).toMatchObject({ code: 'Unauthenticated' });
	});
});
