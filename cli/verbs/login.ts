import { readFile } from 'node:fs/promises';
import { GpuaasError } from '../../kit/error.ts';
import { LoginService } from '../../proto/gen/gpuaas/login/v1/login_pb.ts';
import { SystemService } from '../../proto/gen/gpuaas/system/v1/system_pb.ts';
import { apiOf } from '../client.ts';
import { type Arguments, type Command, take, usageError } from '../command.ts';
import { type Context, putContext } from '../contexts.ts';
import { EXIT } from '../exit-codes.ts';
import { type Io, printJson, write } from '../io.ts';
import type { StoredLogin } from '../oidc/stored-login.ts';

const KEY_BYTES_MAX = 4096;

async function readKey(io: Io, file: string | undefined): Promise<string> {
	if (file !== undefined) {
		const key = (await readFile(file, 'utf8')).trim();
		if (key !== '') return key;
		throw noKey(`${file} is empty`);
	}
	let text = '';
	for await (const chunk of io.stdin) {
		text += String(chunk);
		if (text.includes('\n') || text.length > KEY_BYTES_MAX) break;
	}
	if (text.trim() !== '') return text.trim();
	throw noKey('no API key was given');
}

function noKey(why: string): GpuaasError {
	return new GpuaasError({
		code: 'UNAUTHENTICATED',
		reason: 'UNAUTHENTICATED',
		message: `${why}; nothing was stored. Give the key in a file: --key-file FILE`,
	});
}

async function readRoots(file: string): Promise<string> {
	const pem = await readFile(file, 'utf8');
	if (pem.includes('-----BEGIN CERTIFICATE-----')) return pem;
	throw usageError(login, `--ca ${file} has no certificate (PEM); the operator has it: ca.pem of the control plane`);
}

/** A person at a terminal logs in at the provider; a key comes from a file, or from a pipe. */
function wantsProvider(args: Arguments, io: Io): boolean {
	if (args.flag('browser') || args.flag('device') || args.text('issuer') !== undefined) return true;
	return args.text('key-file') === undefined && io.stdin.isTTY === true;
}

async function logIn(
	io: Io,
	args: Arguments,
	to: { name: string; address: string; caPem: string },
): Promise<StoredLogin> {
	const { providers } = await apiOf(io, { ...to, key: '' })
		.client(LoginService)
		.getLoginOptions({});
	const issuer = args.text('issuer');
	const provider = issuer === undefined ? providers[0] : providers.find((offered) => offered.issuer === issuer);
	if (provider === undefined) {
		const known = providers.map((offered) => offered.issuer).join(', ');
		throw new GpuaasError({
			code: 'FAILED_PRECONDITION',
			reason: 'LOGIN_FAILED',
			message:
				known === ''
					? `${to.address} takes no logins of people; use an API key: gpuaas login ADDRESS --ca FILE --key-file FILE`
					: `${to.address} does not take logins of ${issuer}; it takes those of: ${known}`,
		});
	}
	const at = { issuer: provider.issuer, clientId: args.text('client') ?? provider.clientId };
	if (args.flag('device')) return await (await import('../oidc/device-login.ts')).logInByDevice(io, at);
	return await (await import('../oidc/browser-login.ts')).logInByBrowser(io, at);
}

const login: Command = {
	name: 'login',
	isLocal: true,
	summary: 'Log in to a control plane, at its identity provider or with an API key',
	description:
		'At a terminal this logs in with the browser at the provider that the control plane names (--device: with a code that you enter on another device). An API key comes from a file or from standard input, never from the command line, where other users could read it. Either is checked before anything is stored.',
	usage: 'ADDRESS',
	options: {
		ca: { type: 'string', value: 'FILE', help: 'PEM file with the roots to trust (the operator has it)' },
		browser: { type: 'boolean', help: 'Log in with a browser on this machine (the default at a terminal)' },
		device: { type: 'boolean', help: 'Log in with a code that is entered on another device' },
		issuer: { type: 'string', value: 'URL', help: 'The provider, when the control plane takes several' },
		client: { type: 'string', value: 'ID', help: 'The client at the provider (default: as the control plane says)' },
		'key-file': { type: 'string', value: 'FILE', help: 'File with the API key (default: standard input)' },
		invitation: { type: 'string', value: 'FILE', help: 'File with the invitation to accept with this login' },
		name: { type: 'string', value: 'NAME', help: 'Name of the context (default: the host of the address)' },
	},
	examples: [
		['gpuaas login https://cp.example:8443 --ca ca.pem', 'In the browser'],
		['gpuaas login https://cp.example:8443 --ca ca.pem --device', 'On a machine without a browser'],
		['gpuaas login https://cp.example:8443 --ca ca.pem --invitation invitation', 'The first time, with an invitation'],
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
		const to = { name, address, caPem: await readRoots(caFile) };
		const context: Context & { readonly name: string } = wantsProvider(args, io)
			? { ...to, key: '', login: await logIn(io, args, to) }
			: { ...to, key: await readKey(io, args.text('key-file')) };
		const api = apiOf(io, context, context.login?.accessToken ?? context.key);
		const invitation = args.text('invitation');
		if (invitation !== undefined) {
			const invitationToken = (await readFile(invitation, 'utf8')).trim();
			await api.client(LoginService).acceptInvitation({ invitationToken });
		}
		const me = await api.client(SystemService).whoAmI({});
		const { name: _, ...stored } = context;
		await putContext(io, name, stored);
		if (args.flag('json')) await printJson(io, { context: name, address, principal: me.principalId });
		else await write(io.stdout, `logged in to ${address} as ${me.displayName}; context ${name} is current\n`);
		return EXIT.ok;
	},
};

export const commands: readonly Command[] = [login];
