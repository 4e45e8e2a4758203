import { timestampMs } from '@bufbuild/protobuf/wkt';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { UserIdentityRow } from '../../control-plane/store/port/identities.ts';
import { present } from '../../kit/assert.ts';
import { type MfaStatus, PrincipalService } from '../../proto/gen/gpuaas/iam/v1/principals_pb.ts';
import { credentialRow, principalRow } from '../contract/store/rows.ts';
import { ApiWorld } from './api-world.ts';
import { underPolicy } from './lock-order.ts';
import { refusalOf } from './refusal.ts';

let world: ApiWorld;
beforeAll(async () => {
	world = await ApiWorld.start({ oidc: { stepUpAcr: ['gold'] } });
});
afterAll(() => world[Symbol.asyncDispose]());

const ORG = 'organizations/acme';
const principals = (key: string) => world.client(PrincipalService, key);

async function person(id: string, organization: string | undefined, logins: readonly Partial<UserIdentityRow>[]) {
	await world.deps.store.unit(function* (tx) {
		yield* tx.identities.insertPrincipal(principalRow(id, { email: `${id}@acme.example` }));
		if (organization !== undefined)
			yield* tx.identities.insertMember({ organization, principalId: id, joinedAtMs: 1, addedBy: 'test' });
		for (const [index, login] of logins.entries())
			yield* tx.identities.insertUserIdentity({
				issuer: `https://id-${index}.example`,
				subject: id,
				principalId: id,
				email: `${id}@acme.example`,
				emailVerified: true,
				createdAtMs: 1,
				lastLoginAtMs: null,
				lastAcr: '',
				lastAmr: '',
				lastAuthTimeMs: null,
				...login,
			});
	});
}

test('shows how strongly each person logged in last, to whoever may see those people', async () => {
	const owner = await world.addPrincipal('operator', 'tenant.owner', ORG);
	const developer = await world.addPrincipal('user', 'tenant.developer', ORG);
	await person('ada', 'acme', [
		{ lastLoginAtMs: 5, lastAcr: 'silver', lastAmr: 'pwd', lastAuthTimeMs: 5 },
		{ lastLoginAtMs: 9000, lastAcr: 'gold', lastAmr: 'pwd otp', lastAuthTimeMs: 8000 },
	]);
	await person('bob', 'acme', [{ lastLoginAtMs: 7, lastAcr: 'silver', lastAuthTimeMs: 7 }]);
	// Strong by its level, and nobody knows when: step-up would not take it.
	await person('cyd', 'acme', [{ lastLoginAtMs: 7, lastAcr: 'gold', lastAuthTimeMs: null }]);
	await person('dee', 'acme', [{}]);
	await person('eve', undefined, [{ lastLoginAtMs: 7, lastAcr: 'gold', lastAuthTimeMs: 7 }]);
	const ofAcme = new Map<string, MfaStatus>();
	for (let pageToken = ''; ; ) {
		const page = await principals(owner).listMfaStatus({ parent: ORG, pageSize: 2, pageToken });
		for (const status of page.statuses) ofAcme.set(status.principalId, status);
		pageToken = page.nextPageToken;
		if (pageToken === '') break;
	}
	const ada = present(ofAcme.get('ada'), 'a member');
	expect(ada).toMatchObject({ state: 'strong', acr: 'gold', amr: ['pwd', 'otp'], issuer: '', liveKeys: 0 });
	expect(timestampMs(present(ada.authenticatedAt, 'a time'))).toBe(8000);
	expect(['bob', 'cyd', 'dee', 'eve'].map((id) => ofAcme.get(id)?.state)).toEqual(['weak', 'weak', 'never', undefined]);
	expect(await refusalOf(principals(developer).listMfaStatus({ parent: ORG }))).toMatchObject({
		reason: 'PERMISSION_DENIED',
	});
	expect(await refusalOf(principals(owner).listMfaStatus({ parent: 'platform' }))).toMatchObject({
		reason: 'SCOPE_NOT_FOUND',
	});
	const { statuses } = await principals(world.operatorKey).listMfaStatus({ parent: 'platform', pageSize: 1000 });
	expect(statuses.find(({ principalId }) => principalId === 'eve')).toMatchObject({
		state: 'strong',
		issuer: 'https://id-0.example',
	});
	// Of several logins the newest counts, whichever is strong.
	expect(statuses.find(({ principalId }) => principalId === 'ada')).toMatchObject({ issuer: 'https://id-1.example' });
});

test('to the platform also who is suspended, and how many live keys they have, for those are no second factor', async () => {
	const id = 'fay';
	await person(id, 'acme', []);
	const live = {
		expiresAtMs: world.deps.clock.now() + 3_600_000,
		mac: new Uint8Array(32),
		pepperVersion: 1,
		createdAtMs: 1,
	};
	await world.deps.store.unit(function* (tx) {
		const key = {
			principalId: id,
			displayName: '',
			permissions: [],
			scope: '',
			cidrs: [],
			createdAtMs: 1,
			createdBy: id,
		};
		for (const name of ['kept', 'ended', 'revoked'])
			yield* tx.apiKeys.insert({ ...key, id: name, revokedAtMs: null, revokedReason: '', version: 1 });
		// Two secrets of one key are one key.
		for (const [secret, keyId, patch] of [
			['s1', 'kept', {}],
			['s2', 'kept', {}],
			['s3', 'ended', { expiresAtMs: 1 }],
			['s4', 'revoked', { revokedAtMs: 1 }],
		] as const)
			yield* tx.apiKeys.insertCredential(credentialRow(secret, id, { keyId, ...live, ...patch }));
	});
	const seen = async () => {
		const { statuses } = await principals(world.operatorKey).listMfaStatus({ parent: 'platform', pageSize: 1000 });
		return statuses.find(({ principalId }) => principalId === id);
	};
	expect(await seen()).toMatchObject({ suspended: false, liveKeys: 1, state: 'never' });
	const left = { disabledAtMs: 1, disabledReason: 'left' };
	await world.deps.store.unit(underPolicy((tx) => tx.identities.updatePrincipal(id, left)));
	expect(await seen()).toMatchObject({ suspended: true });
});
