import { describe, expect, test } from 'vitest';
import { GpuaasError } from '../../../kit/error.ts';
import { ANONYMOUS, type CredentialKind, type PrincipalActor } from '../iam/principal.ts';
import { type EdgeVerifier, passEdge } from './edge-gate.ts';
import type { Person } from './token-verifier.ts';

const ADA: Person = { issuer: 'https://id.example', subject: 'ada', email: 'ada@example.com', emailVerified: true };

/** An edge that let somebody through. */
function edge(binds: EdgeVerifier['binds'], subject: string, email: string): EdgeVerifier {
	return { header: 'x-edge', binds, verify: async () => ({ subject, email }) };
}

function comes(credentialKind: CredentialKind, person?: Person): PrincipalActor {
	const actor = { ...ANONYMOUS, kind: 'user', id: 'ada', credentialKind } as const;
	return person === undefined ? actor : { ...actor, person };
}

async function passes(by: EdgeVerifier, actor: PrincipalActor, sent: string | null = 'assertion'): Promise<string> {
	return await passEdge(by, actor, { peer: '', header: () => sent, isRead: true }).then(
		() => 'passed',
		(error: unknown) => GpuaasError.from(error).reason,
	);
}

describe('the gate of the edge', () => {
	test('lets nobody through without its word', async () => {
		for (const sent of [null, ''])
			expect(await passes(edge('subject', 'ada', ''), comes('api_key'), sent)).toBe('EDGE_ASSERTION_INVALID');
	});

	test('binds the word to the same person, by subject or by address', async () => {
		expect(await passes(edge('subject', 'ada', ''), comes('browser_session', ADA))).toBe('passed');
		expect(await passes(edge('subject', 'bob', 'ada@example.com'), comes('browser_session', ADA))).toBe(
			'EDGE_ASSERTION_MISMATCH',
		);
		expect(await passes(edge('email', 'other', 'ada@example.com'), comes('browser_session', ADA))).toBe('passed');
		expect(await passes(edge('email', 'ada', 'bob@example.com'), comes('browser_session', ADA))).toBe(
			'EDGE_ASSERTION_MISMATCH',
		);
	});

	test('takes no address that the provider has not verified, nor an empty one', async () => {
		const unverified = { ...ADA, emailVerified: false };
		expect(await passes(edge('email', 'ada', ADA.email), comes('browser_session', unverified))).toBe(
			'EDGE_ASSERTION_MISMATCH',
		);
		expect(await passes(edge('email', 'ada', ''), comes('browser_session', { ...ADA, email: '' }))).toBe(
			'EDGE_ASSERTION_MISMATCH',
		);
	});

	test('asks for a person wherever one must be behind the credential', async () => {
		for (const kind of ['none', 'api_key', 'break_glass'] as const)
			expect(await passes(edge('subject', 'ada', ''), comes(kind)), kind).toBe('passed');
		for (const kind of ['access_token', 'browser_session'] as const)
			expect(await passes(edge('subject', 'ada', ''), comes(kind)), kind).toBe('EDGE_ASSERTION_MISMATCH');
	});
});
