import { connect, type TLSSocket } from 'node:tls';
import { GpuaasError, messageOf } from '../../kit/error.ts';
import type { Context } from '../contexts.ts';
import { readPorts, whoRuns } from '../up/data-folder.ts';
import { bad, type Finding, ok } from './finding.ts';

const CONNECT_TIMEOUT_MS = 10_000;

/**
 * The enrollment listener as a host meets it. A join token is bound to the TLS session, so nothing may end TLS on the way:
 * what answers must show a certificate of the control plane's own roots, over TLS 1.3 and HTTP/2. A proxy that holds a
 * certificate of those very roots is found by `agent enroll` alone, which compares the session itself.
 */
export async function checkEnrollment(
	named: string | undefined,
	data: string,
	context: Pick<Context, 'caPem'> | undefined,
): Promise<Finding[]> {
	const address = named ?? (await localAddress(data));
	if (address === undefined || context === undefined) return [];
	const problem = await problemOf(address, context.caPem);
	return [problem ?? ok('enrollment', `${address} shows a certificate of this control plane`)];
}

/** Of a control plane that `up` runs now. */
async function localAddress(data: string): Promise<string | undefined> {
	const { enroll } = await readPorts(data);
	return enroll === undefined || (await whoRuns(data)) === undefined ? undefined : `127.0.0.1:${enroll}`;
}

async function problemOf(address: string, rootsPem: string): Promise<Finding | undefined> {
	const { host, port } = partsOf(address);
	const socket = connect({
		host,
		port,
		ALPNProtocols: ['h2'],
		minVersion: 'TLSv1.3',
		ca: rootsPem,
		// Reported below, with what it means.
		rejectUnauthorized: false,
		// Its names are those of the trust domain, not of this address.
		checkServerIdentity: () => undefined,
	});
	try {
		await handshake(socket);
	} catch (error) {
		return unreached(address, error);
	} finally {
		socket.destroy();
	}
	if (!socket.authorized) return ended(address, `shows a certificate of other roots (${socket.authorizationError})`);
	if (socket.alpnProtocol !== 'h2') return ended(address, 'does not speak HTTP/2');
	return undefined;
}

function handshake(socket: TLSSocket): Promise<void> {
	return new Promise((resolve, reject) => {
		socket.setTimeout(CONNECT_TIMEOUT_MS, () => reject(new Error(`no TLS handshake within ${CONNECT_TIMEOUT_MS} ms`)));
		socket.on('error', reject);
		socket.once('secureConnect', resolve);
	});
}

function unreached(address: string, error: unknown): Finding {
	const code = error instanceof Error && 'code' in error ? String(error.code) : '';
	// Refusals of OpenSSL: there is TLS, but none that the listener would speak.
	if (/^ERR_SSL_/.test(code)) return ended(address, `refuses TLS 1.3 with HTTP/2 (${sslReason(error) ?? code})`);
	const advice = 'hosts enroll there: let them reach it, and name it with --enroll HOST:PORT where it is another';
	return bad('enrollment', 'fail', `${address} can't be reached: ${messageOf(error)}`, advice);
}

/** Without OpenSSL's own file names and line numbers. */
function sslReason(error: unknown): string | undefined {
	return error instanceof Error && 'reason' in error && typeof error.reason === 'string' ? error.reason : undefined;
}

function ended(address: string, what: string): Finding {
	return bad(
		'enrollment',
		'fail',
		`${address} ${what}: something ends TLS before it, or it is another control plane`,
		'let the load balancer pass TCP through on this port: a join token is bound to the TLS session and is refused otherwise',
	);
}

function partsOf(address: string): { readonly host: string; readonly port: number } {
	const [, host, port] = /^\[?([^[\]]+)\]?:(\d{1,5})$/.exec(address) ?? [];
	if (host !== undefined && Number(port) > 0 && Number(port) < 65_536) return { host, port: Number(port) };
	throw new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'INVALID_REQUEST',
		message: `--enroll ${JSON.stringify(address)} is not HOST:PORT; see: gpuaas doctor --help`,
		metadata: { exit: '2' },
	});
}
