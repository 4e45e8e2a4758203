import { LoginDomainSchema, LoginService } from '../../proto/gen/gpuaas/login/v1/login_pb.ts';
import { collect, connect } from '../client.ts';
import { type Command, take } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { printJson, printTable, write } from '../io.ts';
import { ago, json } from '../show.ts';

const create: Command = {
	name: 'login-domain create',
	summary: 'Let people of a domain come in as members of an organization, without an invitation',
	description: 'Only with addresses that the provider has verified. They come in without a role.',
	usage: 'ISSUER DOMAIN ORGANIZATION',
	examples: [
		['gpuaas login-domain create https://id.example/realms/gpuaas acme.example acme', 'After asking its owner'],
	],
	async run(args, io) {
		const [issuer = '', domain = '', organization = ''] = take(create, args, 'ISSUER', 'DOMAIN', 'ORGANIZATION');
		const { client } = await connect(io, args);
		const { loginDomain } = await client(LoginService).createLoginDomain({ issuer, domain, organization });
		if (args.flag('json'))
			await printJson(io, { loginDomain: loginDomain === undefined ? null : json(LoginDomainSchema, loginDomain) });
		else await write(io.stdout, `${loginDomain?.id ?? ''}\n`);
		return EXIT.ok;
	},
};

const list: Command = {
	name: 'login-domain list',
	summary: 'List the domains whose people come in without an invitation',
	examples: [['gpuaas login-domain list', 'With the organization of each']],
	async run(args, io) {
		take(list, args);
		const { client } = await connect(io, args);
		const { items } = await collect(
			(pageToken) => client(LoginService).listLoginDomains({ pageToken, pageSize: 1000 }),
			(response) => response.loginDomains,
			10_000,
		);
		if (args.flag('json')) await printJson(io, { loginDomains: items.map((item) => json(LoginDomainSchema, item)) });
		else
			await printTable(
				io,
				['ID', 'DOMAIN', 'ORGANIZATION', 'ISSUER', 'SINCE'],
				items.map((item) => [item.id, item.domain, item.organization, item.issuer, ago(io, item.createdAt)]),
				'no domains: people come in by invitation',
			);
		return EXIT.ok;
	},
};

const remove: Command = {
	name: 'login-domain delete',
	summary: 'Let nobody more in by a domain; who came in stays',
	usage: 'ID',
	examples: [['gpuaas login-domain delete ID', 'From now on by invitation only']],
	async run(args, io) {
		const [id = ''] = take(remove, args, 'ID');
		const { client } = await connect(io, args);
		await client(LoginService).deleteLoginDomain({ id });
		if (args.flag('json')) await printJson(io, { deleted: id });
		else await write(io.stdout, `deleted ${id}\n`);
		return EXIT.ok;
	},
};

export const commands: readonly Command[] = [create, list, remove];
