import type { Clock } from '../../../kit/clock.ts';
import { GpuaasError, messageOf } from '../../../kit/error.ts';

/** The network, as an argument: the global `fetch` in production. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

const TIMEOUT_MS = 5000;
/** Discovery and key documents have a few KiB. */
const BYTES_MAX = 262_144;

/**
 * GET of a small JSON document from a provider. Follows no redirects (where a provider moved to must be configured),
 * reads at most 256 KiB, waits at most 5 s. Throws UNAVAILABLE ISSUER_UNAVAILABLE.
 */
export async function fetchJson(url: string, clock: Clock, fetch: Fetch): Promise<unknown> {
	const { status, body } = await getJson(url, clock, fetch);
	if (status < 200 || status > 299) throw issuerUnavailable(`${shown(url)} gave no usable document (HTTP ${status})`);
	return body;
}

/** As `fetchJson`, for whoever tells apart what the provider answers; `body` is undefined where an error brings no JSON. */
export async function getJson(
	url: string,
	clock: Clock,
	fetch: Fetch,
	more: Readonly<Record<string, string>> = {},
): Promise<{ readonly status: number; readonly body: unknown }> {
	const cut = new AbortController();
	const timer = clock.setTimer(() => cut.abort(), TIMEOUT_MS);
	try {
		const headers = { accept: 'application/json', ...more };
		const response = await fetch(url, { headers, redirect: 'error', signal: cut.signal });
		const { status } = response;
		const text = await boundedText(response);
		return { status, body: response.ok ? JSON.parse(text) : jsonOr(text) };
	} catch (cause) {
		throw issuerUnavailable(`${shown(url)} gave no usable document (${messageOf(cause)})`, cause);
	} finally {
		timer.cancel();
	}
}

/** For whoever may give up waiting before the provider's own time is over. */
export function cutBy(signal: AbortSignal | undefined, fetch: Fetch): Fetch {
	if (signal === undefined) return fetch;
	return (url, init) => {
		const own = init.signal ?? undefined;
		return fetch(url, { ...init, signal: own === undefined ? signal : AbortSignal.any([own, signal]) });
	};
}

export function issuerUnavailable(what: string, cause?: unknown): GpuaasError {
	return new GpuaasError({
		code: 'UNAVAILABLE',
		reason: 'ISSUER_UNAVAILABLE',
		message: `the identity provider cannot be asked now: ${what}; nothing was done. Try again in a minute, or use an API key`,
		cause,
	});
}

/** Without its query, which may name a person: errors are logged. */
function shown(url: string): string {
	return url.split('?', 1)[0] ?? '';
}

function jsonOr(text: string): unknown {
	try {
		return JSON.parse(text);
	} catch {
		return undefined;
	}
}

async function boundedText(response: Response): Promise<string> {
	const parts: Uint8Array[] = [];
	let size = 0;
	for await (const part of response.body ?? []) {
		size += part.byteLength;
		if (size > BYTES_MAX) throw new Error(`more than ${BYTES_MAX} bytes`);
		parts.push(part);
	}
	return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(parts));
}
