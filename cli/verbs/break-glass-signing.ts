import { createHash, createPrivateKey, createPublicKey, type KeyObject, sign as signWith } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { type Arguments, type Command, take, usageError } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { assertChallenge } from '../fido2/assertion.ts';
import {
	FIDO2_ALGORITHMS,
	type Fido2Credential,
	makeCredential as makeCredentialAt,
	readCredential,
	writeCredential,
} from '../fido2/credential.ts';
import { findDevice } from '../fido2/device.ts';
import { type Io, printJson, write } from '../io.ts';

/** What the holders of break-glass keys do, each at their own machine, with no network and no login. */
const OF_DEVICES = {
	device: { type: 'string', value: 'PATH', help: 'Which security key, if several are plugged in: fido2-token -L' },
	fingerprint: { type: 'boolean', help: 'The security key reads fingers: ask for one, not for its PIN' },
} as const;

const makeCredential: Command = {
	name: 'break-glass make-credential',
	isLocal: true,
	summary: 'Make a credential on a FIDO2 security key, to be registered; needs no network',
	description:
		'By libfido2 (Debian and Ubuntu: apt install fido2-tools). The key must have a PIN or know a finger; touch it when it blinks: once to make the credential, and once more because it is tried before it is written. The file holds no secret, and whoever signs needs it beside the key: keep them together.',
	usage: 'FILE',
	options: {
		'rp-id': { type: 'string', value: 'DOMAIN', help: 'Relying party: the domain of the installation' },
		algorithm: { type: 'string', value: 'NAME', help: 'es256 (every key has it) or eddsa (default: es256)' },
		name: { type: 'string', value: 'TEXT', help: 'What the key shows the credential as (default: break-glass)' },
		...OF_DEVICES,
	},
	examples: [
		['gpuaas break-glass make-credential safe-1.json --rp-id gpuaas.example', 'Then: gpuaas break-glass register'],
	],
	async run(args, io) {
		const [path = ''] = take(makeCredential, args, 'FILE');
		const rpId = args.text('rp-id') ?? '';
		if (!/^[a-z0-9.-]{1,253}$/.test(rpId)) throw usageError(makeCredential, '--rp-id is not a domain in lower case');
		const algorithm = FIDO2_ALGORITHMS.find((one) => one === (args.text('algorithm') ?? 'es256'));
		if (algorithm === undefined) throw usageError(makeCredential, '--algorithm is neither es256 nor eddsa');
		const userName = args.text('name') ?? 'break-glass';
		if (!/^[^\p{Cc}]{1,64}$/u.test(userName))
			throw usageError(makeCredential, '--name has 1 to 64 printable characters');
		// Before the key is touched: a credential whose id is written nowhere is of no use.
		if (existsSync(path)) throw usageError(makeCredential, `${path} is there already and is not overwritten`);
		const device = await findDevice(io, args.text('device'));
		await write(io.stderr, 'touch the security key when it blinks\n');
		const credential = await makeCredentialAt(io, device, { rpId, algorithm, userName });
		await write(io.stderr, 'once more: what was made is tried\n');
		await assertChallenge(io, device, credential, io.rng.bytes(32), verificationOf(args));
		await writeCredential(path, credential);
		const keyId = keyIdOf(credential.publicKey);
		if (args.flag('json')) await printJson(io, { file: path, keyId, rpId, algorithm });
		else await write(io.stdout, `${path}: credential ${keyId.slice(0, 16)}; an operator registers it with this file\n`);
		return EXIT.ok;
	},
};

const sign: Command = {
	name: 'break-glass sign',
	isLocal: true,
	summary: 'Sign a challenge with a registered key; needs no network',
	description:
		'Read the challenge first: it names the installation. Reads it from a file, or from standard input. With an Ed25519 key from its file, or with a FIDO2 security key and the file of its credential (by libfido2: apt install fido2-tools).',
	usage: '[CHALLENGE-FILE]',
	options: {
		key: { type: 'string', value: 'FILE', help: 'PEM file with the private Ed25519 key' },
		credential: { type: 'string', value: 'FILE', help: 'Of a FIDO2 key: what make-credential wrote' },
		...OF_DEVICES,
	},
	examples: [
		['gpuaas break-glass sign --key key.pem challenge', 'Prints the signature, to be brought to the other one'],
		['gpuaas break-glass sign --credential safe-1.json challenge', 'With the security key that made it'],
	],
	async run(args, io) {
		const [keyFile, credentialFile] = [args.text('key'), args.text('credential')];
		if ((keyFile === undefined) === (credentialFile === undefined))
			throw usageError(sign, 'one of --key and --credential says what to sign with');
		const [path] = args.positionals;
		const challenge = Buffer.from((path === undefined ? await readAll(io) : await readFile(path, 'utf8')).trim());
		const signature =
			credentialFile === undefined
				? await signedByFile(keyFile ?? '', challenge)
				: await signedByDevice(args, io, await readCredential(credentialFile), challenge);
		if (args.flag('json')) await printJson(io, { signature });
		else await write(io.stdout, `${signature}\n`);
		return EXIT.ok;
	},
};

async function signedByFile(file: string, challenge: Buffer): Promise<string> {
	const key = createPrivateKey(await readFile(file));
	if (key.asymmetricKeyType !== 'ed25519') throw usageError(sign, `${file} is no Ed25519 key`);
	return signatureText(spkiOf(createPublicKey(key)), [signWith(null, challenge, key)]);
}

async function signedByDevice(
	args: Arguments,
	io: Io,
	credential: Fido2Credential,
	challenge: Buffer,
): Promise<string> {
	const device = await findDevice(io, args.text('device'));
	await write(io.stderr, 'touch the security key when it blinks\n');
	const { signature, authenticatorData, clientDataJson } = await assertChallenge(
		io,
		device,
		credential,
		challenge,
		verificationOf(args),
	);
	return signatureText(credential.publicKey, [signature, authenticatorData, clientDataJson]);
}

function verificationOf(args: Arguments) {
	return args.flag('fingerprint') ? 'fingerprint' : 'pin';
}

/** What a holder brings to whoever completes: the id of the key, the signature, and for FIDO2 what else was signed. */
function signatureText(spki: Buffer, parts: readonly Buffer[]): string {
	return [keyIdOf(spki), ...parts.map((part) => part.toString('base64url'))].join('.');
}

export function signatureOf(text: string) {
	const [keyId = '', ...parts] = text.trim().split('.');
	const part = (at: number) => Buffer.from(parts[at] ?? '', 'base64url');
	return { keyId, signature: part(0), authenticatorData: part(1), clientDataJson: part(2) };
}

export function spkiOf(key: KeyObject): Buffer {
	return key.export({ format: 'der', type: 'spki' });
}

function keyIdOf(spki: Buffer): string {
	return createHash('sha256').update(spki).digest('hex');
}

const CHALLENGE_CHARACTERS_MAX = 4096;

async function readAll(io: Io): Promise<string> {
	let text = '';
	for await (const chunk of io.stdin) {
		text += String(chunk);
		if (text.length > CHALLENGE_CHARACTERS_MAX) break;
	}
	return text;
}

export const commands: readonly Command[] = [makeCredential, sign];
