import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { GpuaasError } from '../../kit/error.ts';

/**
 * Who may read the ops pages. On loopback whoever is on this host; anywhere else TLS with a bearer token or a client
 * certificate. A configuration that would show them to a network is refused at start.
 */
export interface OpsAccess {
	/** At least 16 characters; from a file, never from argv. */
	readonly bearerToken?: string;
	readonly tls?: OpsTls;
}

export interface OpsTls {
	readonly chainPem: string;
	readonly keyPem: string;
	/** With it a client certificate of this CA is required. */
	readonly clientCaPem?: string;
}

const BEARER_LENGTH_MIN = 16;

export function checkAccess(host: string, access: OpsAccess): void {
	const { bearerToken, tls } = access;
	if (bearerToken !== undefined && bearerToken.length < BEARER_LENGTH_MIN)
		throw invalid(`the bearer token must have at least ${BEARER_LENGTH_MIN} characters`);
	if (isLoopback(host)) return;
	if (tls === undefined) throw invalid(`${host} is not loopback, so the ops listener needs a certificate there`);
	if (tls.clientCaPem === undefined && bearerToken === undefined)
		throw invalid(`${host} is not loopback, so the ops listener needs a bearer token or a client CA there`);
}

export function isLoopback(host: string): boolean {
	return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

/** Undefined, or the status to refuse with. */
export function refusalOf(request: IncomingMessage, host: string, access: OpsAccess): 401 | 403 | undefined {
	if (access.bearerToken !== undefined) {
		const sent = /^Bearer (\S+)$/i.exec(request.headers.authorization ?? '')?.[1] ?? '';
		return sameText(sent, access.bearerToken) ? undefined : 401;
	}
	if (access.tls?.clientCaPem !== undefined) return undefined;
	// A web page whose name was pointed at 127.0.0.1 (DNS rebinding) shows in its Host header.
	const name = (request.headers.host ?? '').replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
	return isLoopback(host) && isLoopback(name) ? undefined : 403;
}

function sameText(left: string, right: string): boolean {
	const digest = (text: string) => createHash('sha256').update(text).digest();
	return timingSafeEqual(digest(left), digest(right));
}

function invalid(why: string): GpuaasError {
	return new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'CONFIG_INVALID',
		message: `${why}; metrics name hosts and loads and must not be open to a network`,
	});
}
