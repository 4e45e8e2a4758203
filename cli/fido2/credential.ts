import { createHash, createPublicKey } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { GpuaasError } from '../../kit/error.ts';
import type { Io } from '../io.ts';
import { runFido2, securityKeyUnavailable } from './program.ts';

export const FIDO2_ALGORITHMS = ['es256', 'eddsa'] as const;
export type Fido2Algorithm = (typeof FIDO2_ALGORITHMS)[number];

/**
 * A credential that a security key made. Nothing of it is secret: the private key never leaves the security key, and of
 * one that isn't resident the id is what the security key finds it by, so whoever signs needs this file beside the key.
 */
export interface Fido2Credential {
	readonly rpId: string;
	readonly algorithm: Fido2Algorithm;
	readonly credentialId: Buffer;
	/** SPKI, DER. */
	readonly publicKey: Buffer;
}

const FORMAT = 'gpuaas-fido2-credential/v1';
const FILE_CHARS_MAX = 16_384;

/**
 * Makes a credential (CTAP authenticatorMakeCredential) and has libfido2 verify what the key attested: that its signature
 * is over this request and this public key.
 */
export async function makeCredential(
	io: Io,
	device: string,
	of: { readonly rpId: string; readonly algorithm: Fido2Algorithm; readonly userName: string },
): Promise<Fido2Credential> {
	const challenge = Buffer.from(io.rng.bytes(32)).toString('base64url');
	const clientData = JSON.stringify({ type: 'webauthn.create', challenge, origin: `https://${of.rpId}` });
	const hash = createHash('sha256').update(clientData).digest('base64');
	const userId = Buffer.from(io.rng.bytes(32)).toString('base64');
	const asked = [hash, of.rpId, of.userName, userId].map((line) => `${line}\n`).join('');
	const made = await runFido2(io, 'fido2-cred', ['-M', device, of.algorithm], asked);
	if (made.split('\n')[0] !== hash) throw securityKeyUnavailable('it answered another request');
	const verified = await runFido2(io, 'fido2-cred', ['-V', of.algorithm], made);
	const [id = '', ...pem] = verified.split('\n');
	return {
		rpId: of.rpId,
		algorithm: of.algorithm,
		credentialId: Buffer.from(id, 'base64'),
		publicKey: spkiOf(pem.join('\n')),
	};
}

function spkiOf(pem: string): Buffer {
	try {
		return createPublicKey(pem).export({ format: 'der', type: 'spki' });
	} catch (error) {
		throw securityKeyUnavailable('libfido2 gave no public key', error);
	}
}

/** Never over a file that is there: it may be the only copy of another credential's id. */
export async function writeCredential(path: string, credential: Fido2Credential): Promise<void> {
	const { rpId, algorithm, credentialId, publicKey } = credential;
	const document = {
		format: FORMAT,
		rpId,
		algorithm,
		credentialId: credentialId.toString('base64url'),
		publicKey: publicKey.toString('base64url'),
	};
	await writeFile(path, `${JSON.stringify(document, null, '\t')}\n`, { flag: 'wx' });
}

export async function readCredential(path: string): Promise<Fido2Credential> {
	const text = await readFile(path, 'utf8');
	const { format, rpId, algorithm, credentialId, publicKey } = documentOf(text.slice(0, FILE_CHARS_MAX));
	const known = FIDO2_ALGORITHMS.find((one) => one === algorithm);
	const isText = [rpId, credentialId, publicKey].every((value) => typeof value === 'string' && value !== '');
	if (format !== FORMAT || known === undefined || !isText || /\s/.test(String(rpId))) {
		throw new GpuaasError({
			code: 'INVALID_ARGUMENT',
			reason: 'INVALID_REQUEST',
			message: `${path} is no file of: gpuaas break-glass make-credential`,
			metadata: { exit: '2' },
		});
	}
	return {
		rpId: String(rpId),
		algorithm: known,
		credentialId: Buffer.from(String(credentialId), 'base64url'),
		publicKey: Buffer.from(String(publicKey), 'base64url'),
	};
}

function documentOf(text: string): Readonly<Record<string, unknown>> {
	try {
		const parsed: unknown = JSON.parse(text);
		return typeof parsed === 'object' && parsed !== null ? { ...parsed } : {};
	} catch {
		return {};
	}
}
