/** `__Host-`: from this host over TLS alone, for all of it, and not to be set by a neighbouring subdomain. */
export const SESSION_COOKIE = '__Host-gpuaas-session';
export const ATTEMPT_COOKIE = '__Host-gpuaas-login';

const SECRET = /^[A-Za-z0-9_-]{43}$/;

/** The secret in a Cookie header; empty when there is none, or two that differ. */
export function sessionCookie(header: string | null): string {
	return cookieValue(header, SESSION_COOKIE);
}

export function cookieValue(header: string | null, name: string): string {
	const values = new Set<string>();
	for (const pair of (header ?? '').split(';')) {
		const at = pair.indexOf('=');
		if (at > 0 && pair.slice(0, at).trim() === name) values.add(pair.slice(at + 1).trim());
	}
	const [value = ''] = values;
	return values.size === 1 && SECRET.test(value) ? value : '';
}

/** `maxAgeS` 0: forgets it. */
export function setCookie(name: string, value: string, maxAgeS: number): string {
	return `${name}=${value}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=${maxAgeS}`;
}
