import type { Clock } from '../../kit/clock.ts';
import { messageOf } from '../../kit/error.ts';

const WAIT_MAX_MS = 5000;
const SKEW_MAX_MS = 30_000;

/** Whether an identity provider can be asked from here, is who it should be, and has our time; undefined: all is well. */
export async function providerProblem(issuer: string, clock: Clock): Promise<string | undefined> {
	const cut = new AbortController();
	const timer = clock.setTimer(() => cut.abort(), WAIT_MAX_MS);
	try {
		const url = `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`;
		const response = await fetch(url, { redirect: 'error', signal: cut.signal });
		const document: unknown = await response.json();
		const named: unknown = typeof document === 'object' && document !== null ? Reflect.get(document, 'issuer') : '';
		if (named !== issuer) return `its discovery document names ${JSON.stringify(named)}: no login of it is taken`;
		const dateMs = Date.parse(response.headers.get('date') ?? '');
		const skewMs = dateMs - clock.now();
		if (Math.abs(skewMs) > SKEW_MAX_MS) return `its clock is ${Math.round(skewMs / 1000)} s off this host's`;
		return undefined;
	} catch (error) {
		return `it can't be reached from here: ${messageOf(error)}`;
	} finally {
		timer.cancel();
	}
}
