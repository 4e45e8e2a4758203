import { GpuaasError } from '../../../kit/error.ts';
import type { PresentedRequest } from '../iam/authenticate.ts';
import type { CredentialKind, PrincipalActor } from '../iam/principal.ts';
import type { Person } from './token-verifier.ts';

/** What an identity-aware proxy in front of us (Pomerium, Cloudflare Access) says about who passed it. */
export interface EdgeAssertion {
	readonly subject: string;
	/** Lower case. */
	readonly email: string;
}

export interface EdgeVerifier {
	/** The header that carries the assertion. */
	readonly header: string;
	/** Which of the two names the person as the identity provider does. */
	readonly binds: 'subject' | 'email';
	/** Throws when it isn't a good assertion for us. */
	verify(assertion: string): Promise<EdgeAssertion>;
}

/** Of all proxies that we know: those that are not configured are taken off every request. */
export const EDGE_HEADERS = { pomerium: 'x-pomerium-jwt-assertion', cloudflare: 'cf-access-jwt-assertion' } as const;

/** No one person is behind these: for them the edge only vouches for the way. Whatever else comes must name its person. */
const PERSONLESS: ReadonlySet<CredentialKind> = new Set(['none', 'api_key', 'break_glass']);

/**
 * One more gate, never the identity: nothing passes without a good assertion, and a person's must be about the same person
 * as their login. So a stolen token or cookie is worth nothing without the edge, and the edge alone opens nothing.
 */
export async function passEdge(edge: EdgeVerifier, actor: PrincipalActor, { header }: PresentedRequest): Promise<void> {
	const assertSame = await enterEdge(edge, header);
	const person = actor.login ?? actor.person;
	if (person !== undefined || !PERSONLESS.has(actor.credentialKind)) assertSame(person);
}

/** Throws EDGE_ASSERTION_MISMATCH unless this is whom the edge let through. */
export type AssertSame = (person: Person | undefined) => void;

/** The gate before it is known who comes: that the assertion is good. `edge` undefined: there is none, and all pass. */
export async function enterEdge(
	edge: EdgeVerifier | undefined,
	header: PresentedRequest['header'],
): Promise<AssertSame> {
	if (edge === undefined) return () => {};
	const sent = header(edge.header);
	if (sent === null || sent === '') throw edgeRefused('EDGE_ASSERTION_INVALID', 'it carries no assertion of the edge');
	const asserted = await edge.verify(sent);
	return (person) => {
		if (person !== undefined && isAbout(asserted, edge.binds, person)) return;
		throw edgeRefused('EDGE_ASSERTION_MISMATCH', 'the edge let somebody else through than who is logged in');
	};
}

function isAbout(asserted: EdgeAssertion, binds: EdgeVerifier['binds'], person: Person): boolean {
	if (binds === 'subject') return asserted.subject === person.subject;
	return person.emailVerified && person.email !== '' && asserted.email === person.email;
}

export function edgeRefused(
	reason: 'EDGE_ASSERTION_INVALID' | 'EDGE_ASSERTION_MISMATCH',
	why: string,
	cause?: unknown,
): GpuaasError {
	return new GpuaasError({
		code: 'UNAUTHENTICATED',
		reason,
		message: `this request did not come through the access proxy as it should: ${why}; go through its address, and log in there as yourself`,
		cause,
	});
}
