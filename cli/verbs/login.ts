import { readFile } from 'node:fs/promises';
import { GpuaasError } from '../../kit/error.ts';
import { SystemService } from '../../proto/gen/gpuaas/system/v1/system_pb.ts';
import { apiOf } from '../client.ts';
import { type Command, take, usageError } from '../command.ts';
import { putContext } from '../contexts.ts';
import { EXIT } from '../exit-codes.ts';
import { type Io, printJson, write } from '../io.ts';

const KEY_BYTES_MAX = 4096;

async function readKey(io: Io, file: string | undefined): Promise<string> {
	if (file !== undefined) return (await readFile(file, 'utf8')).trim();
	if (io.stdin.isTTY === true) await write(io.stderr, 'API key (then Enter): ');
	let text = '';
	for await (const chunk of io.stdin) {
		text += String(chunk);
		if (text.includes('\n') || text.length > KEY_BYTES_MAX) break;
	}
	return text.trim();
}

const login: Command = {
	name: 'login',
	summary: 'Store the address, trust and key of a control plane as a context',
	description:
		'The key comes from a file or from standard input, never from the command line, where other users could read it. It is checked before anything is stored.',
	usage: 'ADDRESS',
	options: {
		ca: { type: 'string', value: 'FILE', help: 'PEM file with the roots to trust (the operator has it)' },
		'key-file': { type: 'string', value: 'FILE', help: 'File with the API key (default: standard input)' },
		name: { type: 'string', value: 'NAME', help: 'Name of the context (default: the host of the address)' },
	},
	examples: [
		['gpuaas login https://cp.example:8443 --ca ca.pem < key', 'Key from standard input'],
		['gpuaas login https://cp.example:8443 --ca ca.pem --key-file key --name production', 'Under a name of its own'],
	],
	async run(args, io) {
		const [address = ''] = take(login, args, 'ADDRESS');
		if (!/^https:\/\/[^/\s]+$/.test(address))
			throw usageError(login, `ADDRESS ${JSON.stringify(address)} is not https://HOST:PORT`);
		const caFile = args.text('ca');
		if (caFile === undefined) throw usageError(login, '--ca is missing: without it the control plane could be anybody');
		const name = args.text('name') ?? new URL(address).hostname;
		const context = {
			name,
			address,
			caPem: await readFile(caFile, 'utf8'),
			key: await readKey(io, args.text('key-file')),
		};
		if (context.key === '') {
			throw new GpuaasError({
				code: 'UNAUTHENTICATED',
				reason: 'UNAUTHENTICATED',
				message: 'no API key was given; nothing was stored',
			});
		}
		const me = await apiOf(io, context).client(SystemService).whoAmI({});
		const { name: _, ...stored } = context;
		await putContext(io, name, stored);
		if (args.flag('json')) await printJson(io, { context: name, address, principal: me.principalId });
		else await write(io.stdout, `logged in to ${address} as ${me.displayName}; context ${name} is current\n`);
		return EXIT.ok;
	},
};

export const commands: readonly Command[] = [login];
