import { createPublicKey } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { timestampDate } from '@bufbuild/protobuf/wkt';
import {
	BreakGlassKeyKind,
	BreakGlassKeySchema,
	BreakGlassService,
} from '../../proto/gen/gpuaas/break_glass/v1/break_glass_pb.ts';
import { apiOf, collect, connect } from '../client.ts';
import { type Arguments, type Command, take, usageError } from '../command.ts';
import { pickContext, putContext } from '../contexts.ts';
import { EXIT } from '../exit-codes.ts';
import { readCredential } from '../fido2/credential.ts';
import { type Io, printJson, printTable, write } from '../io.ts';
import { ago, enumName, json } from '../show.ts';
import { signatureOf, spkiOf } from './break-glass-signing.ts';

const register: Command = {
	name: 'break-glass register',
	summary: 'Register a key that may open the break-glass, before it is needed',
	description:
		'Keep each key with another person, offline. Two different ones must sign. A FIDO2 security key: gpuaas break-glass make-credential. A key in a file: openssl genpkey -algorithm ed25519 -out key.pem; openssl pkey -in key.pem -pubout -out public.pem',
	usage: 'NAME',
	options: {
		credential: { type: 'string', value: 'FILE', help: 'Of a FIDO2 key: what make-credential wrote' },
		'public-key': { type: 'string', value: 'FILE', help: 'PEM file with the public key' },
		'rp-id': { type: 'string', value: 'DOMAIN', help: 'With --public-key of a FIDO2 key: what it was made for' },
	},
	examples: [
		['gpuaas break-glass register safe-1 --credential safe-1.json', 'A FIDO2 security key'],
		['gpuaas break-glass register safe-2 --public-key public.pem', 'An Ed25519 key'],
	],
	async run(args, io) {
		const [name = ''] = take(register, args, 'NAME');
		const { publicKey, rpId } = await registrationOf(args);
		const { client } = await connect(io, args);
		const kind = rpId === '' ? BreakGlassKeyKind.ED25519 : BreakGlassKeyKind.FIDO2;
		const { key } = await client(BreakGlassService).registerBreakGlassKey({ name, kind, publicKey, rpId });
		if (args.flag('json')) await printJson(io, { key: key === undefined ? null : json(BreakGlassKeySchema, key) });
		else await write(io.stdout, `registered ${name} (${key?.keyId ?? ''})\n`);
		return EXIT.ok;
	},
};

async function registrationOf(args: Arguments): Promise<{ readonly publicKey: Buffer; readonly rpId: string }> {
	const [credential, file] = [args.text('credential'), args.text('public-key')];
	if (credential !== undefined && file === undefined) return await readCredential(credential);
	if (file === undefined || credential !== undefined)
		throw usageError(register, 'one of --credential and --public-key says what to register');
	return { publicKey: spkiOf(createPublicKey(await readFile(file))), rpId: args.text('rp-id') ?? '' };
}

const remove: Command = {
	name: 'break-glass remove',
	summary: 'Remove a registered key',
	usage: 'ID',
	examples: [['gpuaas break-glass remove ID', 'From now on its signature counts for nothing']],
	async run(args, io) {
		const [id = ''] = take(remove, args, 'ID');
		const { client } = await connect(io, args);
		await client(BreakGlassService).removeBreakGlassKey({ id });
		if (args.flag('json')) await printJson(io, { removed: id });
		else await write(io.stdout, `removed ${id}\n`);
		return EXIT.ok;
	},
};

const list: Command = {
	name: 'break-glass list',
	summary: 'List the registered keys',
	examples: [['gpuaas break-glass list', 'At least two, with two people']],
	async run(args, io) {
		take(list, args);
		const { client } = await connect(io, args);
		const { items } = await collect(
			(pageToken) => client(BreakGlassService).listBreakGlassKeys({ pageToken, pageSize: 1000 }),
			(response) => response.keys,
			1000,
		);
		if (args.flag('json')) await printJson(io, { keys: items.map((key) => json(BreakGlassKeySchema, key)) });
		else
			await printTable(
				io,
				['ID', 'NAME', 'KIND', 'KEY', 'SINCE'],
				items.map((key) => [
					key.id,
					key.name,
					enumName(BreakGlassKeyKind, key.kind),
					key.keyId.slice(0, 16),
					ago(io, key.createdAt),
				]),
				'no keys: without two of them nobody gets in while the identity provider is down',
			);
		return EXIT.ok;
	},
};

/** Without a credential: whoever needs this has none. */
async function bare(io: Io, args: Arguments) {
	return apiOf(io, await pickContext(io, args.text('context')), '').client(BreakGlassService);
}

const begin: Command = {
	name: 'break-glass begin',
	summary: 'Get the challenge that two keys must sign',
	description: 'Needs no login. Everybody who looks at the audit log will see it.',
	options: { reason: { type: 'string', value: 'TEXT', help: 'Why; stands in the audit log' } },
	examples: [
		['gpuaas break-glass begin --reason "identity provider is down" > challenge', 'Then: gpuaas break-glass sign'],
	],
	async run(args, io) {
		take(begin, args);
		const reason = args.text('reason');
		if (reason === undefined) throw usageError(begin, '--reason is missing');
		const { grantId, challenge, quorum, expiresAt } = await (await bare(io, args)).beginBreakGlass({ reason });
		const text = Buffer.from(challenge).toString('utf8');
		if (args.flag('json')) await printJson(io, { grantId, challenge: text, quorum });
		else {
			await write(
				io.stderr,
				`${quorum} keys must sign this until ${ago(io, expiresAt)}; then: gpuaas break-glass complete ${grantId} SIGNATURE...\n`,
			);
			await write(io.stdout, `${text}\n`);
		}
		return EXIT.ok;
	},
};

const complete: Command = {
	name: 'break-glass complete',
	summary: 'Open the break-glass with the signatures, for an hour at most',
	description:
		'From the address that began it. The context becomes one of its own, named after the current one, and is used until gpuaas break-glass end.',
	usage: 'GRANT SIGNATURE...',
	examples: [['gpuaas break-glass complete GRANT "$(cat signature-1)" "$(cat signature-2)"', 'Two different keys']],
	async run(args, io) {
		const [grantId, ...given] = args.positionals;
		if (grantId === undefined || given.length === 0) throw usageError(complete, 'GRANT and SIGNATUREs are missing');
		const { name, login: _, ...context } = await pickContext(io, args.text('context'));
		const signatures = given.map(signatureOf);
		const opened = await (await bare(io, args)).completeBreakGlass({ grantId, signatures });
		const own = `${name}-break-glass`;
		await putContext(io, own, { ...context, key: opened.key });
		const until = opened.expiresAt === undefined ? '' : timestampDate(opened.expiresAt).toISOString();
		if (args.flag('json')) await printJson(io, { context: own, expiresAt: until });
		else await write(io.stdout, `open until ${until}; context ${own} is current, and each call of it is recorded\n`);
		return EXIT.ok;
	},
};

const end: Command = {
	name: 'break-glass end',
	summary: 'Close the break-glass that this context opened',
	examples: [['gpuaas break-glass end', 'As soon as the work is done']],
	async run(args, io) {
		take(end, args);
		const { client } = await connect(io, args);
		await client(BreakGlassService).endBreakGlass({});
		if (args.flag('json')) await printJson(io, { ended: true });
		else await write(io.stdout, 'closed; choose your own context again: gpuaas context use NAME\n');
		return EXIT.ok;
	},
};

export const commands: readonly Command[] = [register, remove, list, begin, complete, end];
