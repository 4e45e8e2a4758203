import { afterAll, beforeAll, expect, test } from 'vitest';
import { LoginService } from '../../proto/gen/gpuaas/login/v1/login_pb.ts';
import { bindingRow } from '../contract/store/rows.ts';
import { NodeOidc } from '../providers/node-oidc.ts';
import { idOf } from './iam-world.ts';
import { underPolicy } from './lock-order.ts';
import { LoginWorld } from './login-world.ts';
import { refusalOf } from './refusal.ts';

/** An invitation is judged again when it is accepted, by who its maker is and what they hold then. */
const ACME = 'organizations/acme';
let provider: NodeOidc;
let world: LoginWorld;
let people = 0;

beforeAll(async () => {
	provider = await NodeOidc.start();
	world = await LoginWorld.start(provider);
});
afterAll(async () => {
	await world?.[Symbol.asyncDispose]();
	await provider?.[Symbol.asyncDispose]();
});

/** Somebody at the provider, and how they accept. */
async function guest() {
	people += 1;
	const user = await provider.addUser(`guest${people}`);
	using person = world.person(user);
	const { accessToken } = await person.rawTokens();
	const client = world.api.client(LoginService, accessToken);
	const accept = (invitationToken: string) => client.acceptInvitation({ invitationToken });
	return { email: user.email, accept, refused: async (token: string) => await refusalOf(accept(token)) };
}

async function admin(kind: 'user' | 'service_account' = 'user'): Promise<string> {
	return idOf(await world.api.addPrincipal(kind, 'tenant.admin', ACME));
}

const GONE = { reason: 'INVITATION_INVALID', message: expect.stringContaining('may no longer give that role') };
const store = () => world.api.deps.store;

test('whoever lost the role, or may no longer invite, lets nobody in by an old invitation; with it again it counts', async () => {
	const maker = await admin();
	const { email, accept, refused } = await guest();
	const token = await world.invite(email, 'tenant.developer', ACME, 60_000, maker);
	const [binding] = await store().read((tx) => tx.access.listBindings([maker]));
	await store().unit(function* (tx) {
		yield* tx.access.lockPolicy();
		yield* tx.access.deleteBinding(binding?.id ?? '');
		yield* tx.access.insertBinding(bindingRow('less', maker, { role: 'tenant.developer', scope: ACME }));
	});
	expect(await refused(token)).toMatchObject(GONE);
	await store().unit(function* (tx) {
		yield* tx.access.insertBinding(bindingRow('again', maker, { role: 'tenant.admin', scope: ACME }));
	});
	expect(await accept(token)).toMatchObject({ role: 'tenant.developer', scope: ACME });
});

test('an invitation is worth nothing while its maker is suspended', async () => {
	const maker = await admin();
	const { email, refused } = await guest();
	const token = await world.invite(email, 'tenant.viewer', ACME, 60_000, maker);
	await store().unit(underPolicy((tx) => tx.identities.updatePrincipal(maker, { disabledAtMs: 1 })));
	expect(await refused(token)).toMatchObject(GONE);
});

test('nothing above what its maker holds is accepted, nor support without consent', async () => {
	const maker = await admin();
	const { email, refused } = await guest();
	for (const role of ['tenant.owner', 'tenant.support', 'organizations/acme/roles/never-made'])
		expect(await refused(await world.invite(email, role, ACME, 60_000, maker)), role).toMatchObject(GONE);
});

test('of two invitations by the platform to an organization without an owner, the first to come is the owner', async () => {
	const operator = idOf(await world.api.addPrincipal('operator', 'platform.operator', 'platform'));
	const token = (email: string) => world.invite(email, 'tenant.owner', 'organizations/rival', 60_000, operator);
	const [one, two] = [await guest(), await guest()];
	const [first, second] = [await token(one.email), await token(two.email)];
	await one.accept(first);
	expect(await two.refused(second)).toMatchObject(GONE);
});

test('a role that one has already is not given twice', async () => {
	const { email, accept, refused } = await guest();
	await accept(await world.invite(email, 'tenant.viewer', ACME));
	const again = await refused(await world.invite(email, 'tenant.viewer', ACME));
	expect(again).toMatchObject({ reason: 'INVITATION_INVALID', message: expect.stringContaining('have that role') });
});
