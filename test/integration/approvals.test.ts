import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { putContext } from '../../cli/contexts.ts';
import { dispatch } from '../../cli/dispatch.ts';
import { testIo } from '../../cli/test-io.ts';
import { approvalDigest } from '../../control-plane/app/approvals/digest.ts';
import { present } from '../../kit/assert.ts';
import { uuidv7 } from '../../kit/ids.ts';
import { ApprovalService, ApprovalState } from '../../proto/gen/gpuaas/approvals/v1/approvals_pb.ts';
import { AccessService } from '../../proto/gen/gpuaas/iam/v1/access_pb.ts';
import { KeyService } from '../../proto/gen/gpuaas/iam/v1/keys_pb.ts';
import { CreateTokenRequestSchema, TokenService } from '../../proto/gen/gpuaas/tokens/v1/tokens_pb.ts';
import { NodeOidc } from '../providers/node-oidc.ts';
import { idOf } from './iam-world.ts';
import { underPolicy } from './lock-order.ts';
import { LoginWorld, type Person } from './login-world.ts';
import { refusalOf } from './refusal.ts';

/** A service account's way to a call that needs a step-up, with people of a real provider. */
const CREATE_TOKEN = 'gpuaas.tokens.v1.TokenService/CreateToken';
let provider: NodeOidc;
let world: LoginWorld;
let robot: string;
let approver: Person;

beforeAll(async () => {
	provider = await NodeOidc.start();
	world = await LoginWorld.start(provider);
	robot = await world.api.addPrincipal('service_account', 'platform.operator', 'platform');
	approver = await operator('approver');
});
afterAll(async () => {
	approver?.[Symbol.dispose]();
	await world?.[Symbol.asyncDispose]();
	await provider?.[Symbol.asyncDispose]();
});

async function operator(name: string): Promise<Person> {
	const person = world.person(await provider.addUser(name));
	expect(await person.join('platform.operator', 'platform')).toMatchObject({ code: 0 });
	return person;
}

const approvals = (key: string) => world.api.client(ApprovalService, key);
const tokens = (key: string, approvalId: string) =>
	world.api.client(TokenService, key, { 'x-gpuaas-approval': approvalId });

async function asked(request: object, key = robot): Promise<string> {
	const requestJson = JSON.stringify(request);
	const { approval } = await approvals(key).createApproval({ method: CREATE_TOKEN, requestJson, reason: 'rack 7' });
	return approval?.id ?? '';
}

async function approve(id: string, by = approver): Promise<void> {
	expect(await by.run(['approval', 'approve', id, '--reason', 'as agreed'])).toMatchObject({ code: 0 });
}

test('a second person lets a service account make exactly one call, once', async () => {
	expect(await refusalOf(world.api.client(TokenService, robot).createToken({}))).toMatchObject({
		reason: 'STEP_UP_REQUIRED',
	});
	const id = await asked({ nodeName: 'gpu-7', labels: { b: '2', a: '1' } });
	const call = () => tokens(robot, id).createToken({ nodeName: 'gpu-7', labels: { a: '1', b: '2' } });
	expect(await refusalOf(call())).toMatchObject({
		reason: 'APPROVAL_INVALID',
		message: expect.stringContaining('nobody has approved it yet'),
	});
	await approve(id);
	expect(approver.browser.asked).toContain('otp');

	const other = tokens(robot, id).createToken({ nodeName: 'gpu-8', labels: { a: '1', b: '2' } });
	expect(await refusalOf(other)).toMatchObject({ reason: 'APPROVAL_INVALID' });
	expect((await call()).token?.nodeName).toBe('gpu-7');
	expect(await refusalOf(call())).toMatchObject({ reason: 'APPROVAL_INVALID' });
	const audit = (await world.api.audit()).filter(({ target, detail }) => target.endsWith(id) || detail.approval === id);
	expect(audit.map(({ action }) => action)).toEqual(['approvals.create', 'approvals.approve', 'tokens.create']);
});

test('from the command line: a program asks, a person decides, the program calls with what it was given', async () => {
	const folder = mkdtempSync(join(tmpdir(), 'gpuaas-approval-'));
	const env = { GPUAAS_CONFIG_DIR: folder };
	const gpuaas = async (...argv: string[]) => {
		const io = testIo(env);
		const exit = await dispatch(argv, io);
		return { exit, out: io.out(), err: io.err() };
	};
	try {
		await putContext(testIo(env), 'robot', { address: world.api.url, caPem: world.api.rootPem, key: robot });
		const request = await gpuaas('approval', 'request', CREATE_TOKEN, '--reason', 'rack 7', '--ttl', '20m');
		expect(request).toMatchObject({ exit: 0, err: expect.stringMatching(/^pending: \{/) });
		const id = request.out.trim();
		expect((await gpuaas('approval', 'list')).out).toMatch(new RegExp(`${id} +pending .*CreateToken .*rack 7`));
		const call = () => gpuaas('token', 'create', '--approval', id);
		expect(await call()).toMatchObject({ exit: 1, err: expect.stringContaining('nobody has approved it yet') });
		const listed = JSON.parse((await approver.run(['approval', 'list', '--json'])).out) as {
			approvals: { id: string; createdAt: string; expiresAt: string }[];
		};
		const [shown] = listed.approvals.filter((one) => one.id === id);
		expect(shown).toMatchObject({
			method: CREATE_TOKEN,
			state: 'APPROVAL_STATE_PENDING',
			requestJson: expect.any(String),
		});
		expect(Date.parse(shown?.expiresAt ?? '') - Date.parse(shown?.createdAt ?? '')).toBe(20 * 60_000);
		await approve(id);
		expect(await call()).toMatchObject({ exit: 0, out: expect.stringMatching(/^gpu_jt_/) });
		expect(await call()).toMatchObject({ exit: 1, err: expect.stringContaining('used') });
		const refused = (await gpuaas('approval', 'request', CREATE_TOKEN, '--reason', 'again')).out.trim();
		expect(await approver.run(['approval', 'reject', refused, '--reason', 'no'])).toMatchObject({ code: 0 });
		expect((await gpuaas('approval', 'list')).out).toMatch(new RegExp(`${refused} +rejected`));
		for (const wrong of [
			['request', CREATE_TOKEN],
			['request', '--reason', 'x'],
			['approve', id],
			['reject', id],
		])
			expect(await gpuaas('approval', ...wrong), wrong.join(' ')).toMatchObject({ exit: 2, out: '' });
	} finally {
		rmSync(folder, { recursive: true, force: true });
	}
});

test('two calls at once with one approval: one is made', async () => {
	const id = await asked({ nodeName: 'race' });
	await approve(id);
	const both = await Promise.allSettled([
		tokens(robot, id).createToken({ nodeName: 'race' }),
		tokens(robot, id).createToken({ nodeName: 'race' }),
	]);
	expect(both.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
});

test('an approval is nobody else’s', async () => {
	const id = await asked({ nodeName: 'mine' });
	await approve(id);
	const thief = await world.api.addPrincipal('service_account', 'platform.operator', 'platform');
	const theirs = tokens(thief, id).createToken({ nodeName: 'mine' });
	expect(await refusalOf(theirs)).toMatchObject({ reason: 'APPROVAL_INVALID' });
	const listed = await approvals(robot).listApprovals({});
	expect(listed.approvals.find((item) => item.id === id)).toMatchObject({ state: ApprovalState.APPROVED });
});

test('who may not decide: who asks, who answers for the account, a program, somebody without the permission', async () => {
	// Stepped up from then on.
	await approve(await asked({ nodeName: 'before' }));
	const token = approver.stored().accessToken;
	const own = await asked({ nodeName: 'own' }, token);
	const decided = (id: string, key: string) =>
		refusalOf(approvals(key).approveApproval({ approvalId: id, reason: 'x' }));
	expect(await decided(own, token)).toMatchObject({ reason: 'APPROVER_NOT_ALLOWED' });

	const id = await asked({ nodeName: 'robot' });
	const robotId = (await world.api.deps.store.read((tx) => tx.approvals.get(id)))?.requesterId ?? '';
	const ownerId = (await approver.json<{ principalId: string }>('whoami')).principalId;
	await world.api.deps.store.unit(underPolicy((tx) => tx.identities.updatePrincipal(robotId, { ownerId })));
	expect(await decided(id, token)).toMatchObject({ reason: 'APPROVER_NOT_ALLOWED' });
	await world.api.deps.store.unit(underPolicy((tx) => tx.identities.updatePrincipal(robotId, { ownerId: null })));

	const program = await world.api.addPrincipal('service_account', 'platform.operator', 'platform');
	expect(await decided(id, program)).toMatchObject({ reason: 'STEP_UP_REQUIRED' });
	const reject = approvals(program).rejectApproval({ approvalId: id, reason: 'x' });
	expect(await refusalOf(reject)).toMatchObject({ reason: 'APPROVER_NOT_ALLOWED' });

	using auditor = world.person(await provider.addUser('auditor'));
	await auditor.join('platform.auditor', 'platform');
	expect(await decided(id, auditor.stored().accessToken)).toMatchObject({ reason: 'PERMISSION_DENIED' });
});

test('an approval is asked for an hour at most', async () => {
	const ask = (seconds: bigint) =>
		approvals(robot).createApproval({
			...{ method: CREATE_TOKEN, requestJson: '{}', reason: 'x' },
			ttl: { seconds, nanos: 0 },
		});
	expect(await refusalOf(ask(3601n))).toMatchObject({ reason: 'INVALID_REQUEST' });
	const { approval } = await ask(3600n);
	expect(Number(approval?.expiresAt?.seconds) - Number(approval?.createdAt?.seconds)).toBe(3600);
	const { approval: usual } = await approvals(robot).createApproval({
		method: CREATE_TOKEN,
		requestJson: '{}',
		reason: 'x',
	});
	expect(Number(usual?.expiresAt?.seconds) - Number(usual?.createdAt?.seconds)).toBe(900);
});

test('a rejected one and an expired one count for nothing', async () => {
	const rejected = await asked({ nodeName: 'no' });
	expect(await approver.run(['approval', 'reject', rejected, '--reason', 'no'])).toMatchObject({ code: 0 });
	expect(await refusalOf(tokens(robot, rejected).createToken({ nodeName: 'no' }))).toMatchObject({
		reason: 'APPROVAL_INVALID',
		message: expect.stringContaining('it was rejected'),
	});
	expect((await approver.run(['approval', 'approve', rejected, '--reason', 'yes'])).code).toBe(1);

	const nowMs = world.api.deps.clock.now();
	const late = async (name: string, boundMs: number, expiresAtMs: number) => {
		const template = await world.api.deps.store.read((tx) => tx.approvals.get(rejected));
		const requesterId = template?.requesterId ?? '';
		const request = create(CreateTokenRequestSchema, { nodeName: name });
		const bound = { method: CREATE_TOKEN, input: CreateTokenRequestSchema, request, requesterId, expiresAtMs: boundMs };
		const id = uuidv7(nowMs, world.api.deps.rng);
		const row = { ...present(template, 'a row'), id, expiresAtMs, state: 'approved' as const };
		await world.api.deps.store.unit((tx) => tx.approvals.insert({ ...row, digestSha256: approvalDigest(bound) }));
		return await refusalOf(tokens(robot, id).createToken({ nodeName: name }));
	};
	expect(await late('late', nowMs - 1, nowMs - 1)).toMatchObject({ message: expect.stringContaining('has expired') });
	// The end is part of what is bound: moving it in the database voids the approval.
	const moved = await late('moved', nowMs + 60_000, nowMs + 120_000);
	expect(moved).toMatchObject({ message: expect.stringContaining('another request') });
});

test('one that has expired is decided by nobody, and a requester has so many undecided', async () => {
	const pending = await asked({ nodeName: 'pending' });
	const template = await world.api.deps.store.read((tx) => tx.approvals.get(pending));
	const row = present(template, 'a row');
	const nowMs = world.api.deps.clock.now();
	const id = () => uuidv7(nowMs, world.api.deps.rng);
	const expired = { ...row, id: id(), expiresAtMs: nowMs - 1 };
	const requester = await world.api.addPrincipal('service_account', 'platform.operator', 'platform');
	await world.api.deps.store.unit(function* (tx) {
		yield* tx.approvals.insert(expired);
		for (let count = 0; count < 100; count += 1)
			yield* tx.approvals.insert({ ...row, id: id(), requesterId: idOf(requester), expiresAtMs: nowMs + 600_000 });
	});
	const late = await approver.run(['approval', 'approve', expired.id, '--reason', 'yes']);
	expect(late).toMatchObject({ code: 1, err: expect.stringContaining('it has expired') });
	const another = approvals(requester).createApproval({ method: CREATE_TOKEN, requestJson: '{}', reason: 'x' });
	expect(await refusalOf(another)).toMatchObject({ code: 'ResourceExhausted', reason: 'RATE_LIMITED' });
});

test('an approval makes no person of a service account: it has no keys of its own to make or rotate', async () => {
	const calls = {
		CreateMyKey: (id: string) => keysOf(id).createMyKey({ displayName: 'own' }),
		RotateMyKey: (id: string) => keysOf(id).rotateMyKey({ keyId: 'own', etag: 'v1' }),
	};
	const requests = { CreateMyKey: { displayName: 'own' }, RotateMyKey: { keyId: 'own', etag: 'v1' } };
	const keysOf = (id: string) => world.api.client(KeyService, robot, { 'x-gpuaas-approval': id });
	const row = { principalId: idOf(robot), displayName: '', permissions: [], scope: '', cidrs: [], createdAtMs: 1 };
	const own = { id: 'own', ...row, createdBy: 'x', revokedAtMs: null, revokedReason: '', version: 1 };
	await world.api.deps.store.unit(underPolicy((tx) => tx.apiKeys.insert(own)));
	for (const name of ['CreateMyKey', 'RotateMyKey'] as const) {
		const method = `gpuaas.iam.v1.KeyService/${name}`;
		const requestJson = JSON.stringify(requests[name]);
		const { approval } = await approvals(robot).createApproval({ method, requestJson, reason: 'x' });
		await approve(approval?.id ?? '');
		expect(await refusalOf(calls[name](approval?.id ?? '')), name).toMatchObject({
			code: 'FailedPrecondition',
			message: expect.stringContaining('these are keys of people'),
		});
	}
});

test('nothing is asked that needs no approval, or that the requester may not do in any case', async () => {
	const ask = (method: string, requestJson: string, key = robot) =>
		refusalOf(approvals(key).createApproval({ method, requestJson, reason: 'x' }));
	expect(await ask('gpuaas.nodes.v1.NodeService/ListNodes', '{}')).toMatchObject({ reason: 'INVALID_REQUEST' });
	expect(await ask('nothing/Here', '{}')).toMatchObject({ reason: 'INVALID_REQUEST' });
	expect(await ask(CREATE_TOKEN, '{"unknown":1}')).toMatchObject({ reason: 'INVALID_REQUEST' });
	const viewer = await world.api.addPrincipal('service_account', 'platform.viewer', 'platform');
	expect(await ask(CREATE_TOKEN, '{}', viewer)).toMatchObject({ reason: 'PERMISSION_DENIED' });
	// May ask, and may not do it.
	const admin = await world.api.addPrincipal('service_account', 'tenant.admin', 'organizations/acme');
	const request = JSON.stringify({ name: 'organizations/acme/projects/train', planDigest: '0'.repeat(64) });
	const refused = await ask('gpuaas.iam.v1.ScopeService/DeleteScope', request, admin);
	expect(refused).toMatchObject({ reason: 'PERMISSION_DENIED', message: expect.stringContaining('scopes.delete') });
});

test('a tenant’s own people decide for its service accounts; nobody else’s, and a retry gets the first answer', async () => {
	const parent = 'organizations/acme';
	const method = 'gpuaas.iam.v1.AccessService/CreateBinding';
	const program = await world.api.addPrincipal('service_account', 'tenant.admin', parent);
	const principalId = idOf(await world.api.addPrincipal('user', 'tenant.viewer', parent));
	using owner = world.person(await provider.addUser('owner'));
	expect(await owner.join('tenant.owner', parent)).toMatchObject({ code: 0 });
	using rival = world.person(await provider.addUser('rival'));
	expect(await rival.join('tenant.owner', 'organizations/rival')).toMatchObject({ code: 0 });
	const request = { parent, principalId, role: 'tenant.billing' };
	const requestJson = JSON.stringify(request);
	const { approval } = await approvals(program).createApproval({ method, requestJson, reason: 'payday' });
	const id = approval?.id ?? '';

	const seen = async (key: string) => (await approvals(key).listApprovals({})).approvals.map((one) => one.id);
	expect(await seen(owner.stored().accessToken)).toEqual([id]);
	expect(await seen(rival.stored().accessToken)).toEqual([]);
	const reject = (approvalId: string) =>
		refusalOf(approvals(rival.stored().accessToken).rejectApproval({ approvalId, reason: 'x' }));
	expect({ ...(await reject(id)), error: 0 }).toEqual({ ...(await reject('no-such-approval')), error: 0 });
	// What the platform asks for about the same organization is not the tenant's to see.
	await approvals(robot).createApproval({ method, requestJson, reason: 'ours' });
	expect(await seen(owner.stored().accessToken)).toEqual([id]);

	const call = (requestId: string, role = request.role) =>
		world.api
			.client(AccessService, program, { 'x-gpuaas-approval': id })
			.createBinding({ ...request, role, requestId });
	const first = uuidv7(world.api.deps.clock.now(), world.api.deps.rng);
	expect(await refusalOf(call(first))).toMatchObject({ reason: 'APPROVAL_INVALID' });
	await approve(id, owner);
	const made = await call(first);
	expect(await call(first)).toEqual(made);
	expect(await refusalOf(call(first, 'tenant.viewer'))).toMatchObject({ reason: 'APPROVAL_INVALID' });
	const other = uuidv7(world.api.deps.clock.now(), world.api.deps.rng);
	expect(await refusalOf(call(other))).toMatchObject({ reason: 'APPROVAL_INVALID' });
	const records = (await world.api.audit()).filter(({ detail }) => detail.approval === id);
	expect(records.map(({ action }) => action)).toEqual(['bindings.create']);
});

test('who decides could make the call: whoever may decide and not do it approves nothing', async () => {
	const parent = 'organizations/acme';
	const method = 'gpuaas.iam.v1.ScopeService/DeleteScope';
	const program = await world.api.addPrincipal('service_account', 'tenant.owner', parent);
	const requestJson = JSON.stringify({ name: `${parent}/projects/train`, planDigest: '0'.repeat(64) });
	const { approval } = await approvals(program).createApproval({ method, requestJson, reason: 'over' });
	const id = approval?.id ?? '';
	// Of the roles below an owner's, that one may decide and may not delete.
	using admin = world.person(await provider.addUser('admin'));
	expect(await admin.join('tenant.admin', parent)).toMatchObject({ code: 0 });
	const refused = await admin.run(['approval', 'approve', id, '--reason', 'x']);
	expect(refused).toMatchObject({ code: 1, err: expect.stringContaining('you lack the permission scopes.delete') });
	using owner = world.person(await provider.addUser('owner of acme'));
	expect(await owner.join('tenant.owner', parent)).toMatchObject({ code: 0 });
	await approve(id, owner);
});
