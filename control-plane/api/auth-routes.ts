import type { Clock } from '../../kit/clock.ts';
import { GpuaasError } from '../../kit/error.ts';
import { KeyedBuckets } from '../../kit/limits.ts';
import type { Logger } from '../../kit/log.ts';
import type { BrowserLogin } from '../app/login/browser-login.ts';
import { ATTEMPT_TTL_MS, SESSION_TTL_MS } from '../app/login/browser-login.ts';
import { ATTEMPT_COOKIE, cookieValue, SESSION_COOKIE, setCookie } from '../app/login/cookies.ts';
import { type AssertSame, type EdgeVerifier, enterEdge } from '../app/login/edge-gate.ts';
import { returnPath } from '../app/login/return-path.ts';
import type { AuthGate } from './auth-gate.ts';
import { fromThrown } from './errors.ts';

/**
 * The pages that a browser needs to log in and out, beside the API on its listener: /auth/login, /auth/callback,
 * /auth/session, /auth/logout, /auth/backchannel-logout. Each decodes, calls app/login once, and encodes.
 */
export interface AuthRequest {
	readonly method: string;
	readonly url: URL;
	readonly header: (name: string) => string | null;
	readonly peer: string;
	readonly gate: Pick<AuthGate, 'admit' | 'enter'>;
	/** Rejects above `bytesMax`. */
	body(bytesMax: number): Promise<string>;
}

export interface AuthAnswer {
	readonly status: number;
	readonly headers?: Readonly<Record<string, string | readonly string[]>>;
	readonly json?: unknown;
}

export interface AuthRoutesOptions {
	readonly browser: BrowserLogin;
	readonly clock: Clock;
	readonly log: Logger;
	/** The first is the default. */
	readonly issuers: readonly string[];
	/** Present where an access proxy stands in front: the pages are behind it as the API is. */
	readonly edge?: EdgeVerifier;
	/** What browsers see of us: `https://gpuaas.example`. */
	readonly origin: string;
	/** Keeps a record of it; never rejects. */
	refused(request: Pick<AuthRequest, 'method' | 'url' | 'peer'>, error: GpuaasError): Promise<void>;
}

const BODY_BYTES_MAX = 16_384;
/** Each begins a row and a call to the provider. */
const LOGINS_PER_SECOND = 2;
const LOGINS_BURST = 20;

export class AuthRoutes {
	readonly #options: AuthRoutesOptions;
	readonly #logins: KeyedBuckets;

	constructor(options: AuthRoutesOptions) {
		this.#options = options;
		this.#logins = new KeyedBuckets(options.clock, LOGINS_PER_SECOND, LOGINS_BURST);
	}

	async handle(request: AuthRequest): Promise<AuthAnswer> {
		try {
			request.gate.admit(request.peer);
			return await this.#route(request);
		} catch (thrown) {
			const error = fromThrown(thrown);
			const { code, reason, message } = error;
			this.#options.log.info('a browser login was refused', { path: request.url.pathname, reason, peer: request.peer });
			if (!NOISE.has(reason)) await this.#options.refused(request, error);
			const waitS = error.metadata['retry-after'];
			const headers = waitS === undefined ? {} : { 'retry-after': waitS };
			return { status: STATUS[code] ?? 500, headers, json: { error: reason.toLowerCase(), reason, message } };
		}
	}

	async #route(request: AuthRequest): Promise<AuthAnswer> {
		switch (`${request.method} ${request.url.pathname}`) {
			case 'GET /auth/login':
				return await this.#login(request);
			case 'GET /auth/callback':
				return await this.#callback(request);
			case 'GET /auth/session':
				return await this.#session(request);
			case 'POST /auth/logout':
				return await this.#logout(request);
			case 'POST /auth/backchannel-logout':
				return await this.#backchannel(request);
			default:
				return { status: 404, json: { error: 'not_found', message: 'there is no such page' } };
		}
	}

	async #login({ url, peer, header, gate }: AuthRequest): Promise<AuthAnswer> {
		using _place = gate.enter();
		if (this.#logins.take(peer) > 0) throw tooFast();
		await this.#enter(header);
		const { browser, issuers } = this.#options;
		const wanted = url.searchParams.get('issuer') ?? issuers[0] ?? '';
		if (!issuers.includes(wanted)) throw unknownIssuer();
		const returnTo = returnPath(url.searchParams.get('return_to'));
		const begun = await browser.begin(wanted, returnTo, url.searchParams.get('step_up') === '1');
		return redirect(begun.url, [setCookie(ATTEMPT_COOKIE, begun.secret, ATTEMPT_TTL_MS / 1000)]);
	}

	async #callback({ url, header, peer, gate }: AuthRequest): Promise<AuthAnswer> {
		using _place = gate.enter();
		const assertSame = await this.#enter(header);
		const cookies = header('cookie');
		const [secret, before] = [cookieValue(cookies, ATTEMPT_COOKIE), cookieValue(cookies, SESSION_COOKIE)];
		const made = await this.#options.browser.complete(url, { secret, before, peer, assertSame });
		return redirect(made.returnTo, [
			setCookie(SESSION_COOKIE, made.secret, SESSION_TTL_MS / 1000),
			setCookie(ATTEMPT_COOKIE, '', 0),
		]);
	}

	async #session({ header, gate }: AuthRequest): Promise<AuthAnswer> {
		using _place = gate.enter();
		const { browser } = this.#options;
		const assertSame = await this.#enter(header);
		const { session, rotated } = await browser.look(cookieValue(header('cookie'), SESSION_COOKIE), assertSame);
		const lifeS = Math.floor((session.expiresAtMs - this.#options.clock.now()) / 1000);
		const { principalId, expiresAtMs, acr, authenticatedAtMs } = session;
		return {
			status: 200,
			json: { principalId, expiresAtMs, acr, authenticatedAtMs, csrfToken: browser.csrfToken(session) },
			...(rotated === undefined ? {} : { headers: { 'set-cookie': [setCookie(SESSION_COOKIE, rotated, lifeS)] } }),
		};
	}

	async #logout({ header, gate }: AuthRequest): Promise<AuthAnswer> {
		using _place = gate.enter();
		const origin = header('origin');
		if (origin !== null && origin !== this.#options.origin) throw otherOrigin();
		const assertSame = await this.#enter(header);
		const secret = cookieValue(header('cookie'), SESSION_COOKIE);
		const providerUrl = await this.#options.browser.end(secret, header('x-csrf-token') ?? '', assertSame);
		const headers = { 'set-cookie': [setCookie(SESSION_COOKIE, '', 0)] };
		return { status: 200, headers, json: { providerUrl: providerUrl ?? '' } };
	}

	#enter(header: AuthRequest['header']): Promise<AssertSame> {
		return enterEdge(this.#options.edge, header);
	}

	/**
	 * From the provider itself, whose signature it carries: no access proxy is on that way. Section 2.8: 200 when done, 400
	 * when refused, never cached.
	 */
	async #backchannel({ peer, body, gate }: AuthRequest): Promise<AuthAnswer> {
		try {
			const form = new URLSearchParams(await body(BODY_BYTES_MAX));
			// Not before: a body that trickles in would hold the place.
			using _place = gate.enter();
			await this.#options.browser.backchannel(form.get('logout_token') ?? '');
			return { status: 200 };
		} catch (error) {
			// A provider that ends everybody's sessions is one address: only what would leave a record is too much.
			if (!NOISE.has(fromThrown(error).reason) && this.#logins.take(`backchannel ${peer}`) > 0) throw tooFast();
			throw error;
		}
	}
}

/** What happens to everybody: no decision about somebody, and no record. */
const NOISE: ReadonlySet<string> = new Set([
	'RATE_LIMITED',
	'SESSION_ENDED',
	'ISSUER_UNAVAILABLE',
	'STORE_UNAVAILABLE',
]);

const STATUS: Readonly<Record<string, number>> = {
	INVALID_ARGUMENT: 400,
	FAILED_PRECONDITION: 400,
	UNAUTHENTICATED: 401,
	PERMISSION_DENIED: 403,
	RESOURCE_EXHAUSTED: 429,
	UNAVAILABLE: 503,
};

function redirect(location: string, cookies: readonly string[]): AuthAnswer {
	return { status: 303, headers: { location, 'set-cookie': cookies, 'referrer-policy': 'no-referrer' } };
}

function unknownIssuer(): GpuaasError {
	return new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'ACCESS_TOKEN_ISSUER',
		message: 'this provider is not configured here; nobody was sent there',
	});
}

function tooFast(): GpuaasError {
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'RATE_LIMITED',
		message: 'too many logins are begun from your address; wait a few seconds',
	});
}

function otherOrigin(): GpuaasError {
	return new GpuaasError({
		code: 'PERMISSION_DENIED',
		reason: 'CSRF_REJECTED',
		message: 'the request comes from a page of another site; nothing was done',
	});
}
