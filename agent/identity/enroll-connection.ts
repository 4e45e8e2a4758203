import { type ClientHttp2Session, connect as connectHttp2, constants } from 'node:http2';
import { isIP } from 'node:net';
import {
	type ConnectionOptions,
	checkServerIdentity,
	connect as connectTls,
	type DetailedPeerCertificate,
	type PeerCertificate,
	type TLSSocket,
} from 'node:tls';
import {
	create,
	type DescMethodUnary,
	fromBinary,
	type MessageInitShape,
	type MessageShape,
	toBinary,
} from '@bufbuild/protobuf';
import { GpuaasError, messageOf } from '../../kit/error.ts';
import { EXPORTER_BYTES, EXPORTER_LABEL } from '../../pki/keys/enroll-transcript.ts';
import { findPinnedCa } from '../../pki/trust/chain.ts';
import { identityOf } from '../../pki/trust/identity.ts';
import { gatewayDnsName } from '../../pki/trust/spiffe.ts';
import { parseCertificate } from '../../pki/x509/parse.ts';
import { certificatePem } from '../../pki/x509/pem.ts';
import { type CallAnswer, errorOfAnswer } from './connect-error.ts';

/**
 * One TLS 1.3 connection to an enrollment listener, with two unary calls on it (Connect protocol, binary). Plain
 * `node:http2`, because the channel binding comes from the TLS socket.
 *
 * Trust on first contact: a first connection only looks at the presented chain for the root that the join token pins;
 * nothing is sent on it. Then this connects again with that root as the only one.
 */
export interface EnrollPeer {
	/** host:port. */
	readonly address: string;
	readonly trustDomain: string;
	/** PEM. */
	readonly rootsPem: string;
}

const CONNECT_TIMEOUT_MS = 10_000;
const CALL_TIMEOUT_MS = 20_000;
/** Leaf, issuing CA, root, and room. */
const CHAIN_MAX = 8;
/** A bundle and a chain have a few KiB. */
const ANSWER_BYTES_MAX = 1024 * 1024;

export class EnrollConnection implements Disposable {
	/** RFC 9266. */
	readonly exporter: Uint8Array;
	/** Issuer of the listener's certificate: the bundle must name it. */
	readonly replicaIssuerKeyId: string;
	readonly #session: ClientHttp2Session;
	readonly #peer: EnrollPeer;

	static async open(peer: EnrollPeer): Promise<EnrollConnection> {
		let issuerKeyId = '';
		const socket = await tlsConnect(peer.address, {
			servername: gatewayDnsName(peer.trustDomain),
			ca: peer.rootsPem,
			rejectUnauthorized: true,
			checkServerIdentity: (name: string, certificate: PeerCertificate) => {
				const result = judgeReplica(certificate.raw, peer.trustDomain);
				if (result instanceof GpuaasError) return result;
				issuerKeyId = result;
				return checkServerIdentity(name, certificate);
			},
		});
		return new EnrollConnection(peer, socket, issuerKeyId);
	}

	private constructor(peer: EnrollPeer, socket: TLSSocket, issuerKeyId: string) {
		this.#peer = peer;
		this.replicaIssuerKeyId = issuerKeyId;
		this.exporter = new Uint8Array(socket.exportKeyingMaterial(EXPORTER_BYTES, EXPORTER_LABEL, Buffer.alloc(0)));
		this.#session = connectHttp2(`https://${gatewayDnsName(peer.trustDomain)}`, { createConnection: () => socket });
		// Each call reports what it met; without a listener it would be an uncaught error too.
		this.#session.on('error', () => {});
	}

	async call<M extends DescMethodUnary>(
		method: M,
		request: MessageInitShape<M['input']>,
	): Promise<MessageShape<M['output']>> {
		const input: M['input'] = method.input;
		const output: M['output'] = method.output;
		const body = toBinary(input, create(input, request));
		const answer = await this.#post(`/${method.parent.typeName}/${method.name}`, body);
		if (answer.status !== 200) throw errorOfAnswer(answer);
		return fromBinary(output, answer.body);
	}

	[Symbol.dispose](): void {
		this.#session.destroy();
	}

	#post(path: string, body: Uint8Array): Promise<CallAnswer> {
		return new Promise((resolve, reject) => {
			const fail = (error: unknown) => reject(unreachable(this.#peer.address, error));
			const stream = this.#session.request({
				[constants.HTTP2_HEADER_METHOD]: 'POST',
				[constants.HTTP2_HEADER_PATH]: path,
				[constants.HTTP2_HEADER_CONTENT_TYPE]: 'application/proto',
				'connect-protocol-version': '1',
			});
			const chunks: Buffer[] = [];
			let length = 0;
			let status = 0;
			stream.setTimeout(CALL_TIMEOUT_MS, () => stream.destroy(new Error(`no answer within ${CALL_TIMEOUT_MS} ms`)));
			stream.on('response', (headers) => {
				status = Number(headers[constants.HTTP2_HEADER_STATUS]);
			});
			stream.on('data', (chunk: Buffer) => {
				length += chunk.length;
				if (length > ANSWER_BYTES_MAX) stream.destroy(new Error(`an answer above ${ANSWER_BYTES_MAX} bytes`));
				else chunks.push(chunk);
			});
			stream.on('end', () => resolve({ status, body: new Uint8Array(Buffer.concat(chunks)) }));
			stream.on('error', fail);
			stream.on('close', () => fail(new Error('the connection was closed before the answer')));
			stream.end(body);
		});
	}
}

/** Looks at the presented chain, unauthenticated, for a root that the token pins; its certificate as PEM. */
export async function findPinnedRoot(address: string, trustDomain: string, pins: readonly string[]): Promise<string> {
	const socket = await tlsConnect(address, {
		servername: gatewayDnsName(trustDomain),
		rejectUnauthorized: false,
		// The chain alone matters: what it says about itself proves nothing yet.
		checkServerIdentity: () => undefined,
	});
	const chain = presentedChain(socket);
	socket.destroy();
	const root = findPinnedCa(chain, pins);
	if (root !== undefined) return certificatePem(root);
	throw new GpuaasError({
		code: 'UNAUTHENTICATED',
		reason: 'CHANNEL_MISMATCH',
		message: `${address} is not the control plane that made this join token: none of the ${chain.length} certificates that it presents has the pinned key; compare the address, and look for a proxy that ends TLS`,
	});
}

function presentedChain(socket: TLSSocket): Uint8Array[] {
	const chain: Uint8Array[] = [];
	let certificate: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true);
	while (certificate?.raw !== undefined && chain.length < CHAIN_MAX) {
		chain.push(new Uint8Array(certificate.raw));
		// A self-signed certificate is its own issuer; the chain may also just end.
		const above: DetailedPeerCertificate | undefined = certificate.issuerCertificate;
		certificate = above === certificate ? undefined : above;
	}
	return chain;
}

/** The issuer's key id, or why this is no replica. Which issuers are accepted is known only with the bundle. */
function judgeReplica(leafDer: Uint8Array, trustDomain: string): string | GpuaasError {
	const parsed = parseCertificate(leafDer);
	const issuerKeyId = parsed.kind === 'ok' ? parsed.certificate.issuerKeyIdHex : '';
	// TLS has judged the time already, with the system clock.
	const nowMs = parsed.kind === 'ok' ? parsed.certificate.notBeforeMs : 0;
	const acceptedIssuerKeyIds = new Set([issuerKeyId]);
	const identity = identityOf(leafDer, { trustDomain, acceptedIssuerKeyIds, expect: 'replica', nowMs });
	if (identity.kind === 'ok') return issuerKeyId;
	return new GpuaasError({ code: 'UNAUTHENTICATED', reason: identity.reason, message: identity.message });
}

function tlsConnect(address: string, options: ConnectionOptions): Promise<TLSSocket> {
	const { host, port } = splitAddress(address);
	return new Promise((resolve, reject) => {
		const socket = connectTls({ ...options, host, port, ALPNProtocols: ['h2'], minVersion: 'TLSv1.3' });
		const fail = (error: unknown) => {
			socket.destroy();
			reject(error instanceof GpuaasError ? error : unreachable(address, error));
		};
		socket.setTimeout(CONNECT_TIMEOUT_MS, () => fail(new Error(`no TLS handshake within ${CONNECT_TIMEOUT_MS} ms`)));
		socket.once('error', fail);
		socket.once('secureConnect', () => {
			socket.setTimeout(0);
			socket.removeListener('error', fail);
			socket.on('error', () => {});
			if (socket.alpnProtocol === 'h2') resolve(socket);
			else fail(new Error('it does not speak HTTP/2'));
		});
	});
}

function splitAddress(address: string): { readonly host: string; readonly port: number } {
	const colon = address.lastIndexOf(':');
	const host = address.slice(0, colon).replace(/^\[(.*)\]$/, '$1');
	const port = Number(address.slice(colon + 1));
	if (
		colon > 0 &&
		Number.isInteger(port) &&
		port > 0 &&
		port < 65_536 &&
		(isIP(host) !== 6 || address.startsWith('['))
	) {
		return { host, port };
	}
	throw new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'CONFIG_INVALID',
		message: `"${address}" is no host:port of an enrollment listener`,
	});
}

function unreachable(address: string, error: unknown): GpuaasError {
	if (error instanceof GpuaasError) return error;
	return new GpuaasError({
		code: 'UNAVAILABLE',
		reason: 'UNREACHABLE',
		message: `the enrollment listener ${address} can't be used: ${messageOf(error)}${clockHint(error)}`,
		cause: error,
	});
}

/** What OpenSSL says when this host's clock is wrong, in words. */
function clockHint(error: unknown): string {
	const code = error instanceof Error && 'code' in error ? error.code : undefined;
	if (code === 'CERT_NOT_YET_VALID') return "; this host's clock is behind: compare it with the control plane's";
	if (code === 'CERT_HAS_EXPIRED') return "; this host's clock is ahead, or the control plane's certificate ran out";
	return '';
}
