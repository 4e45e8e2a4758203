import { expect, test } from 'vitest';
import { LoginService } from '../../proto/gen/gpuaas/login/v1/login_pb.ts';
import { NodeOidc } from '../providers/node-oidc.ts';
import { browserSessionSuite } from './browser-session-suite.ts';
import { loginSuite } from './login-suite.ts';
import { LoginWorld } from './login-world.ts';

const suite = loginSuite(() => NodeOidc.start());
browserSessionSuite(suite);

test('the same subject and the same address at another issuer is a stranger', async () => {
	await using one = await NodeOidc.start();
	await using other = await NodeOidc.start();
	await using world = await LoginWorld.start(one, 300_000, [other.issuer]);
	using known = world.person(await one.addUser('alice'));
	expect(await known.join('tenant.developer', 'organizations/acme/projects/train')).toMatchObject({ code: 0 });
	const impostor = await other.addUser('alice');
	expect(impostor).toMatchObject({ subject: known.user.subject, email: known.user.email });
	using stranger = world.person(impostor);
	const answer = await stranger.login('--issuer', other.issuer);
	expect(answer).toMatchObject({ code: 1, err: expect.stringContaining('ask for an invitation') });
});

test('an address that names a domain within quotes lets nobody in by that domain', async () => {
	await using provider = await NodeOidc.start();
	await using world = await LoginWorld.start(provider);
	const domains = world.api.client(LoginService, world.api.operatorKey);
	const at = { issuer: provider.issuer, organization: 'acme' };
	for (const domain of ['acme.example', 'evil.example']) await domains.createLoginDomain({ ...at, domain });
	using mallory = world.person(await provider.addUser('mallory', { email: '"x@acme.example"@evil.example' }));
	expect(await mallory.login()).toMatchObject({ code: 1, err: expect.stringContaining('ask for an invitation') });
	using ada = world.person(await provider.addUser('ada', { email: 'ada@acme.example' }));
	expect(await ada.login()).toMatchObject({ code: 0 });
});

test('an operator suspends others, and not themselves', async () => {
	await using provider = await NodeOidc.start();
	await using world = await LoginWorld.start(provider);
	const joined = async (name: string, role: string, scope: string) => {
		const person = world.person(await provider.addUser(name));
		expect(await person.join(role, scope)).toMatchObject({ code: 0 });
		return { person, id: (await person.json<{ principalId: string }>('whoami')).principalId };
	};
	using disposer = new DisposableStack();
	const [first, second, tenant] = [
		await joined('first', 'platform.operator', 'platform'),
		await joined('second', 'platform.operator', 'platform'),
		await joined('tenant', 'tenant.developer', 'organizations/acme/projects/train'),
	];
	for (const { person } of [first, second, tenant]) disposer.use(person);
	const suspend = (id: string) => first.person.run(['user', 'suspend', id, '--reason', 'left']);
	expect((await suspend(first.id)).err).toContain('you would suspend yourself');
	expect(await suspend(tenant.id)).toMatchObject({ code: 0 });
	expect(await tenant.person.run(['whoami'])).toMatchObject({ code: 1 });
	expect(await suspend(second.id)).toMatchObject({ code: 0 });
	expect(await first.person.run(['whoami'])).toMatchObject({ code: 0 });
});
