import { expect, test } from 'vitest';
import { ATTEMPT_COOKIE, SESSION_COOKIE, sessionCookie, setCookie } from './cookies.ts';

const SECRET = 'a'.repeat(43);

test('a cookie is for this host alone, over TLS, out of reach of scripts and of other sites’ forms', () => {
	expect(setCookie(SESSION_COOKIE, SECRET, 60)).toBe(
		`__Host-gpuaas-session=${SECRET}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=60`,
	);
	expect(ATTEMPT_COOKIE).toMatch(/^__Host-/);
});

test('a session is read from its own cookie, and from none where two differ', () => {
	expect(sessionCookie(`a=b; ${SESSION_COOKIE}=${SECRET}`)).toBe(SECRET);
	expect(sessionCookie(`${SESSION_COOKIE}=${SECRET}; ${SESSION_COOKIE}=${SECRET}`)).toBe(SECRET);
	// Whoever can set a second one must not choose the session.
	expect(sessionCookie(`${SESSION_COOKIE}=${SECRET}; ${SESSION_COOKIE}=${'b'.repeat(43)}`)).toBe('');
	for (const header of [null, '', SESSION_COOKIE, `${SESSION_COOKIE}=short`, `x${SESSION_COOKIE}=${SECRET}`])
		expect(sessionCookie(header)).toBe('');
});
