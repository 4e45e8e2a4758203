import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { TokenSchema, TokenService, TokenState } from '../../proto/gen/gpuaas/tokens/v1/tokens_pb.ts';
import { collect, connect } from '../client.ts';
import { type Command, durationMs, pairs, take } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { printJson, printTable, write } from '../io.ts';
import { ago, enumName, json, labels } from '../show.ts';
import { readPorts } from '../up/data-folder.ts';

const create: Command = {
	name: 'token create',
	summary: 'Make a one-time join token for a host',
	description:
		'The token is shown once and is not stored. Hand it to the host in a file or by cloud-init, never on a command line that others can see.',
	options: {
		ttl: { type: 'string', value: 'DURATION', help: 'How long it may wait to be used (default 10m, at most 24h)' },
		name: { type: 'string', value: 'NAME', help: 'Name of the node that it makes (default: the host name)' },
		label: { type: 'string', multiple: true, value: 'K=V', help: 'Label of the node; may be repeated' },
		serial: { type: 'string', value: 'SERIAL', help: 'Only the machine with this DMI serial may use it' },
	},
	examples: [
		['gpuaas token create > token', 'Only the token on standard output, so that it can go to a file'],
		['gpuaas token create --name gpu-07 --label rack=r3 --ttl 1h', 'For one named host'],
	],
	async run(args, io) {
		take(create, args);
		const ttlMs = durationMs(create, 'ttl', args.text('ttl'));
		const { client, context } = await connect(io, args);
		const response = await client(TokenService).createToken({
			...(ttlMs === undefined ? {} : { ttl: durationFromMs(ttlMs) }),
			nodeName: args.text('name') ?? '',
			labels: pairs(create, 'label', args.texts('label')),
			expectedSerial: args.text('serial') ?? '',
		});
		const { token, joinToken } = response;
		if (args.flag('json')) {
			await printJson(io, { token: token === undefined ? null : json(TokenSchema, token), joinToken });
			return EXIT.ok;
		}
		// Where hosts enroll is the operator's to say; of a control plane on this host its folder knows.
		const { enroll } = context.data === undefined ? {} : await readPorts(context.data);
		const address = enroll === undefined ? 'CONTROL-PLANE:9444' : `127.0.0.1:${enroll}`;
		await write(
			io.stderr,
			`token ${token?.id ?? ''}, expires ${ago(io, token?.expiresAt)}; on the host: gpuaas agent enroll --address ${address} --token-file FILE\n`,
		);
		await write(io.stdout, `${joinToken}\n`);
		return EXIT.ok;
	},
};

const list: Command = {
	name: 'token list',
	summary: 'List join tokens',
	examples: [['gpuaas token list', 'Newest last, with who used them']],
	async run(args, io) {
		take(list, args);
		const { client } = await connect(io, args);
		const { items } = await collect(
			(pageToken) => client(TokenService).listTokens({ pageToken, pageSize: 1000 }),
			(response) => response.tokens,
			10_000,
		);
		if (args.flag('json')) await printJson(io, { tokens: items.map((token) => json(TokenSchema, token)) });
		else {
			await printTable(
				io,
				['ID', 'STATE', 'FOR', 'USED BY', 'LABELS', 'EXPIRES', 'CREATED BY'],
				items.map((token) => [
					token.id,
					enumName(TokenState, token.state),
					token.nodeName || 'any host',
					token.nodeId || '-',
					labels(token.labels),
					ago(io, token.expiresAt),
					token.createdBy,
				]),
				'no tokens yet; make one with: gpuaas token create',
			);
		}
		return EXIT.ok;
	},
};

const revoke: Command = {
	name: 'token revoke',
	summary: 'Make a token useless',
	usage: 'TOKEN-ID',
	examples: [['gpuaas token revoke 0123456789ab', 'It can no longer enroll a host']],
	async run(args, io) {
		const [tokenId = ''] = take(revoke, args, 'TOKEN-ID');
		const { client } = await connect(io, args);
		const { token } = await client(TokenService).revokeToken({ tokenId });
		if (args.flag('json')) await printJson(io, { token: token === undefined ? null : json(TokenSchema, token) });
		else await write(io.stdout, `token ${tokenId} is revoked\n`);
		return EXIT.ok;
	},
};

export const commands: readonly Command[] = [create, list, revoke];
