import { execFileSync } from 'node:child_process';
import { createHash, createPublicKey } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dispatch } from '../../cli/dispatch.ts';
import { testIo } from '../../cli/test-io.ts';
import { signatureOf } from '../../cli/verbs/break-glass-signing.ts';
import { SoftwareKey } from '../fakes/fido2/programs.ts';
import { readState } from '../fakes/fido2/state.ts';
import { lacks, tool } from '../tools.ts';
import { ApiWorld } from './api-world.ts';

/**
 * FIDO2 keys of the break-glass on the command line. The security key is a STAND-IN in software (test/fakes/fido2): what it
 * attests is verified by the real fido2-cred, what it signs by the real fido2-assert and by the control plane.
 */
const RP_ID = 'gpuaas.example';

describe.skipIf(lacks('fido2-assert', 'fido2-cred', 'fido2-token'))('FIDO2 keys', () => {
	let world: ApiWorld;
	let first: SoftwareKey;
	let second: SoftwareKey;
	const folder = mkdtempSync(join(tmpdir(), 'gpuaas-bg-fido2-'));
	const file = (name: string) => join(folder, name);

	async function run(argv: readonly string[], path = '', stdin = '') {
		const io = testIo({ GPUAAS_CONFIG_DIR: folder, PATH: path }, stdin);
		const code = await dispatch(argv, io);
		return { code, out: io.out().trim(), err: io.err() };
	}
	const make = (key: SoftwareKey, name: string, ...more: readonly string[]) =>
		run(['break-glass', 'make-credential', file(name), '--rp-id', RP_ID, ...more], key.bin);
	const sign = (key: SoftwareKey, name: string, challenge: string) =>
		run(['break-glass', 'sign', '--credential', file(name)], key.bin, challenge);
	async function begin() {
		const { out } = await run(['break-glass', 'begin', '--reason', 'drill', '--json', '--context', 'cp']);
		return JSON.parse(out) as { readonly grantId: string; readonly challenge: string };
	}

	beforeAll(async () => {
		world = await ApiWorld.start();
		first = new SoftwareKey('first');
		second = new SoftwareKey('second');
		const login = ['login', world.url, '--ca', world.rootFile(), '--name', 'cp'];
		expect(await run(login, '', `${world.operatorKey}\n`)).toMatchObject({ code: 0 });
		expect(await make(first, 'first.json')).toMatchObject({ code: 0 });
		expect(await make(second, 'second.json', '--algorithm', 'eddsa')).toMatchObject({ code: 0 });
		for (const name of ['first', 'second']) {
			const registered = await run(['break-glass', 'register', name, '--credential', file(`${name}.json`)]);
			expect(registered, registered.err).toMatchObject({ code: 0 });
		}
	});
	afterAll(async () => {
		first[Symbol.dispose]();
		second[Symbol.dispose]();
		rmSync(folder, { recursive: true, force: true });
		await world[Symbol.asyncDispose]();
	});

	test('two of them, P-256 and Ed25519, open it from the command line', async () => {
		const { grantId, challenge } = await begin();
		const signatures = [
			(await sign(first, 'first.json', challenge)).out,
			(await sign(second, 'second.json', challenge)).out,
		];
		const opened = await run(['break-glass', 'complete', grantId, ...signatures, '--context', 'cp']);
		expect(opened, opened.err).toMatchObject({ code: 0 });
		expect((await run(['whoami', '--context', 'cp-break-glass'])).out).toContain('break-glass');
		expect(await run(['break-glass', 'end', '--context', 'cp-break-glass'])).toMatchObject({ code: 0 });
	});

	test('a signature for another challenge, or one that was used, opens nothing', async () => {
		const [one, other] = [await begin(), await begin()];
		const good = (await sign(second, 'second.json', one.challenge)).out;
		const wrong = (await sign(first, 'first.json', other.challenge)).out;
		const tried = await run(['break-glass', 'complete', one.grantId, wrong, good, '--context', 'cp']);
		expect(tried.code).toBe(1);
		expect(tried.err).toContain('another challenge');
		// A copy of the key's state from before: its counter stands where the control plane has seen it.
		const { counter } = readState(first.folder);
		const used = [(await sign(first, 'first.json', one.challenge)).out, good];
		expect(await run(['break-glass', 'complete', one.grantId, ...used, '--context', 'cp'])).toMatchObject({ code: 0 });
		first.set({ ...readState(first.folder), counter });
		const again = await begin();
		const copied = (await sign(first, 'first.json', again.challenge)).out;
		const fresh = (await sign(second, 'second.json', again.challenge)).out;
		const refused = await run(['break-glass', 'complete', again.grantId, copied, fresh, '--context', 'cp']);
		expect(refused.err).toContain('counter');
		// Nor do two signatures of one key set its counter back to the lower of them.
		first.set({ ...readState(first.folder), counter: counter + 50 });
		const high = (await sign(first, 'first.json', again.challenge)).out;
		first.set({ ...readState(first.folder), counter: counter + 10 });
		const low = (await sign(first, 'first.json', again.challenge)).out;
		const both = await run(['break-glass', 'complete', again.grantId, high, low, fresh, '--context', 'cp']);
		expect(both.err).toContain('named twice');
		await run(['break-glass', 'end', '--context', 'cp-break-glass']);
	});

	test.each([
		['first.json', 'es256'],
		['second.json', 'eddsa'],
	])('libfido2 itself verifies what %s signed', async (name, algorithm) => {
		const challenge = 'gpuaas break-glass v1 test grant 00';
		const { out } = await sign(name === 'first.json' ? first : second, name, challenge);
		const { signature, authenticatorData, clientDataJson } = signatureOf(out);
		expect(JSON.parse(clientDataJson.toString())).toEqual({
			type: 'webauthn.get',
			challenge: createHash('sha256').update(challenge).digest('base64url'),
			origin: `https://${RP_ID}`,
			crossOrigin: false,
		});
		const spki = Buffer.from(JSON.parse(readFileSync(file(name), 'utf8')).publicKey, 'base64url');
		writeFileSync(
			file('key.pem'),
			createPublicKey({ key: spki, format: 'der', type: 'spki' }).export({ format: 'pem', type: 'spki' }),
		);
		const verify = (data: Buffer) =>
			execFileSync(tool('fido2-assert'), ['-V', '-p', '-v', file('key.pem'), algorithm], {
				input: [
					createHash('sha256').update(clientDataJson).digest('base64'),
					RP_ID,
					// Wrapped again, as libfido2 hands it out.
					Buffer.concat([Buffer.from([0x58, data.length]), data]).toString('base64'),
					signature.toString('base64'),
					'',
				].join('\n'),
				stdio: ['pipe', 'pipe', 'pipe'],
			});
		verify(authenticatorData);
		const changed = Buffer.from(authenticatorData);
		changed.writeUInt32BE(1000, 33);
		expect(() => verify(changed)).toThrow();
	});

	test('a key without a PIN, without the credential or not plugged in says what to do, and signs nothing', async () => {
		using bare = new SoftwareKey('bare', { hasPin: false });
		const unmade = await make(bare, 'bare.json');
		expect(unmade).toMatchObject({ code: 1 });
		expect(unmade.err).toContain('fido2-token -S');
		expect(existsSync(file('bare.json'))).toBe(false);
		const foreign = await sign(second, 'first.json', 'challenge');
		expect(foreign).toMatchObject({ code: 1, out: '' });
		expect(foreign.err).toContain('plug in the one that made it');
		bare.set({ ...readState(bare.folder), isPluggedIn: false });
		expect((await sign(bare, 'first.json', 'challenge')).err).toContain('none is plugged in');
	});

	test('without libfido2 it says what to install; the real program, without a key, that none is there', async () => {
		const nowhere = await run(['break-glass', 'sign', '--credential', file('first.json')], folder, 'challenge');
		expect(nowhere).toMatchObject({ code: 1 });
		expect(nowhere.err).toContain('apt install fido2-tools');
		const real = dirname(tool('fido2-assert'));
		const keyless = await run(['break-glass', 'sign', '--credential', file('first.json')], real, 'challenge');
		expect(keyless).toMatchObject({ code: 1, out: '' });
		expect(keyless.err).toContain('none is plugged in');
		// The real program's own refusal of what is no security key.
		const noKey = ['break-glass', 'sign', '--credential', file('first.json'), '--fingerprint', '--device', '/dev/null'];
		expect((await run(noKey, real, 'challenge')).err).toContain('fido2-assert');
	});

	test('neither another file nor an option in a device’s place is taken, and no file is overwritten', async () => {
		expect(await run(['break-glass', 'sign'], first.bin, 'x')).toMatchObject({ code: 2 });
		writeFileSync(file('other.json'), '{"format":"other"}');
		expect(await sign(first, 'other.json', 'x')).toMatchObject({ code: 2 });
		const dashed = ['break-glass', 'sign', '--credential', file('first.json'), '--device=-d'];
		expect((await run(dashed, first.bin, 'x')).err).toContain('is no device');
		const before = readFileSync(file('first.json'), 'utf8');
		expect(await make(first, 'first.json')).toMatchObject({ code: 2 });
		expect(readFileSync(file('first.json'), 'utf8')).toBe(before);
	});
});
