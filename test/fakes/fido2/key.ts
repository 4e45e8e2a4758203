import { createHash, createPrivateKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readState, writeState } from './state.ts';

/**
 * STAND-IN: a security key in software behind the interface of fido2-token, fido2-cred and fido2-assert. Its credentials and
 * assertions are real (P-256 or Ed25519, packed self attestation, a counter); only the hardware is not there, nor its touch.
 */
const [folder = '', program = '', ...args] = process.argv.slice(2);
const DEVICE = '/dev/hidraw-stand-in';
const [USER_PRESENT, USER_VERIFIED, ATTESTED] = [0x01, 0x04, 0x40];

const sha256 = (bytes: Uint8Array | string) => createHash('sha256').update(bytes).digest();
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');
const raw = (text = '') => Buffer.from(text, 'base64url');

class Refused extends Error {}

function fail(why: string): never {
	throw new Refused(why);
}

/** A byte string, or the head of one, as a key sends it (RFC 8949, shortest form). */
function bytes(value: Uint8Array): Buffer {
	const { length } = value;
	const head = length < 24 ? [0x40 | length] : length < 256 ? [0x58, length] : [0x59, length >> 8, length & 0xff];
	return Buffer.concat([Buffer.from(head), value]);
}

/** COSE_Key (RFC 9052 section 7): EC2 for ES256, OKP for EdDSA. */
function cose(publicKey: KeyObject): Buffer {
	const { kty, x, y } = publicKey.export({ format: 'jwk' });
	return kty === 'EC'
		? Buffer.concat([Buffer.from('a501020326200121', 'hex'), bytes(raw(x)), Buffer.from('22', 'hex'), bytes(raw(y))])
		: Buffer.concat([Buffer.from('a401010327200621', 'hex'), bytes(raw(x))]);
}

function signed(key: KeyObject, data: Buffer, clientDataHash: Buffer): string {
	const algorithm = key.asymmetricKeyType === 'ed25519' ? null : 'sha256';
	return base64(sign(algorithm, Buffer.concat([data, clientDataHash]), key));
}

function counted(): Buffer {
	const state = readState(folder);
	writeState(folder, { ...state, counter: state.counter + 1 });
	const counter = Buffer.alloc(4);
	counter.writeUInt32BE(state.counter + 1);
	return counter;
}

function make(input: readonly string[], algorithm: string): readonly string[] {
	const [hash = '', rpId = ''] = input;
	const pair =
		algorithm === 'eddsa' ? generateKeyPairSync('ed25519') : generateKeyPairSync('ec', { namedCurve: 'P-256' });
	const privateKey = pair.privateKey.export({ format: 'pem', type: 'pkcs8' }).toString();
	const id = sha256(privateKey);
	const { credentials, ...state } = readState(folder);
	writeState(folder, { ...state, credentials: { ...credentials, [id.toString('hex')]: privateKey } });
	const flags = USER_PRESENT | (state.hasPin ? USER_VERIFIED : 0) | ATTESTED;
	const attested = [Buffer.alloc(16), Buffer.from([0, id.length]), id, cose(pair.publicKey)];
	const data = Buffer.concat([sha256(rpId), Buffer.from([flags]), counted(), ...attested]);
	const signature = signed(pair.privateKey, data, Buffer.from(hash, 'base64'));
	return [hash, rpId, 'packed', base64(bytes(data)), base64(id), signature];
}

function answer(input: readonly string[], asksForUser: boolean): readonly string[] {
	const [hash = '', rpId = '', id = ''] = input;
	const { credentials, hasPin } = readState(folder);
	const pem = credentials[Buffer.from(id, 'base64').toString('hex')];
	if (pem === undefined) fail('fido_dev_get_assert: FIDO_ERR_NO_CREDENTIALS');
	if (asksForUser && !hasPin) fail('fido_dev_get_assert: FIDO_ERR_PIN_NOT_SET');
	const flags = USER_PRESENT | (asksForUser ? USER_VERIFIED : 0);
	const data = Buffer.concat([sha256(rpId), Buffer.from([flags]), counted()]);
	return [hash, rpId, base64(bytes(data)), signed(createPrivateKey(pem), data, Buffer.from(hash, 'base64'))];
}

function run(): readonly string[] {
	const { isPluggedIn, name } = readState(folder);
	const mode = `${program} ${args[0]}`;
	if (mode === 'fido2-token -L')
		return isPluggedIn ? [`${DEVICE}: vendor=0x0000, product=0x0000 (stand-in ${name})`] : [];
	if (!args.includes(DEVICE) || !isPluggedIn) fail('fido_dev_open: FIDO_ERR_INTERNAL');
	const input = readFileSync(0, 'utf8').split('\n');
	if (mode === 'fido2-cred -M') return make(input, args.at(-1) ?? '');
	if (mode === 'fido2-assert -G') return answer(input, args.includes('-v') || args.includes('uv=true'));
	return fail('usage');
}

try {
	process.stdout.write(`${run().join('\n')}\n`.replace(/^\n$/, ''));
} catch (error) {
	if (!(error instanceof Refused)) throw error;
	process.stderr.write(`${program}: ${error.message}\n`);
	process.exitCode = 1;
}
