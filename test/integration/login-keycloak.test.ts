import { describe, expect, test } from 'vitest';
import { KeycloakDirectory } from '../../control-plane/adapters/oidc/keycloak-directory.ts';
import { DirectoryCheck } from '../../control-plane/app/login/check-directory.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { SystemService } from '../../proto/gen/gpuaas/system/v1/system_pb.ts';
import { Keycloak } from '../providers/keycloak.ts';
import { realmDrift } from '../providers/realm-drift.ts';
import { lacks } from '../tools.ts';
import { browserSessionSuite } from './browser-session-suite.ts';
import { loginSuite } from './login-suite.ts';
import type { Person } from './login-world.ts';

describe.skipIf(lacks('java', 'mvn', 'unzip'))('Keycloak', () => {
	const suite = loginSuite(() => Keycloak.start());
	browserSessionSuite(suite);

	test('whoever is disabled or removed there loses their keys here too, and nobody else does', async () => {
		const keycloak = suite().provider as Keycloak;
		const { world } = suite();
		const clientSecret = await keycloak.directorySecret();
		const settings = { clientId: 'gpuaas-directory', clientSecret, issuers: [keycloak.issuer] };
		const directory = new KeycloakDirectory(settings, systemClock);
		const check = new DirectoryCheck({ ...world.api.deps, directory });
		const people = [await suite().member(), await suite().member(), await suite().member()] as const;
		const keyOf = async (person: Person) => {
			const identity = await world.api.deps.store.read((tx) =>
				tx.identities.getUserIdentity(keycloak.issuer, person.user.subject),
			);
			return await world.api.addKey(present(identity, 'who logged in').principalId);
		};
		const keys = await Promise.all(people.map(keyOf));
		const works = async (key: string | undefined) =>
			await world.api
				.client(SystemService, key)
				.whoAmI({})
				.then(
					() => true,
					() => false,
				);
		// Whoever other tests disabled.
		for (let look = 0; look < 2; look += 1) await check.look();
		const [disabled, removed] = people;
		await keycloak.disableUser(disabled.user);
		await keycloak.removeUser(removed.user);
		expect(await check.look()).toBe(0);
		expect(await Promise.all(keys.map(works))).toEqual([true, true, true]);
		expect(await check.look()).toBe(2);
		expect(await Promise.all(keys.map(works))).toEqual([false, false, true]);
		expect(await people[2].run(['whoami'])).toMatchObject({ code: 0 });
		expect(await check.look()).toBe(0);
		for (const person of people) person[Symbol.dispose]();
	});

	test('the realm is what the committed file says, and each departure from it is named', async () => {
		const keycloak = suite().provider as Keycloak;
		expect(await realmDrift(keycloak)).toEqual([]);
		await keycloak.admin('PUT', '', { accessTokenLifespan: 900 });
		const [client] = await keycloak.admin<Record<string, unknown>[]>('GET', 'clients?clientId=gpuaas-cli');
		await keycloak.admin('PUT', `clients/${client?.id}`, { ...client, directAccessGrantsEnabled: true });
		expect(await realmDrift(keycloak)).toEqual([
			'accessTokenLifespan: 900, not 300',
			'clients.gpuaas-cli.directAccessGrantsEnabled: true, not false',
		]);
	});
});
