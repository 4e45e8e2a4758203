import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { type Key, KeySchema, KeyService } from '../../proto/gen/gpuaas/iam/v1/keys_pb.ts';
import { collect } from '../client.ts';
import { type Command, durationMs, usageError } from '../command.ts';
import { type Asked, define, type Shown } from '../define.ts';
import { childName, scopeName } from '../scope-names.ts';
import { ago, json } from '../show.ts';

const ACCOUNT = {
	'service-account': { type: 'string', value: 'NAME', help: 'Of this service account (default: your own)' },
} as const;

/** API keys: one's own, and those of service accounts. A secret goes to standard output alone, once. */
export const commands: readonly Command[] = [
	define({
		name: 'key create',
		summary: 'Make an API key; it is shown once',
		takes: ['DISPLAY-NAME'],
		options: {
			...ACCOUNT,
			permission: { type: 'string', multiple: true, value: 'NOUN.VERB', help: 'Only these; may be repeated' },
			scope: { type: 'string', value: 'SCOPE', help: 'Only at and below it' },
			cidr: { type: 'string', multiple: true, value: 'NETWORK', help: 'Only from there; may be repeated' },
			ttl: { type: 'string', value: 'DURATION', help: 'How long it lives (default 90d, at most 365d)' },
		},
		examples: [
			['gpuaas key create laptop > key', 'Your own; it can never do more than you can'],
			['gpuaas key create ci --service-account acme/train/ci --permission tasks.create > key', 'For a program'],
		],
		async act({ api, args, given, command }) {
			const ttlMs = durationMs(command, 'ttl', args.text('ttl'));
			const scope = args.text('scope');
			const asked = {
				displayName: given[0] ?? '',
				permissions: [...args.texts('permission')],
				scope: scope === undefined ? '' : scopeName(scope),
				cidrs: [...args.texts('cidr')],
				...(ttlMs === undefined ? {} : { ttl: durationFromMs(ttlMs) }),
			};
			const client = api.client(KeyService);
			const account = args.text('service-account');
			return secretShown(
				account === undefined
					? await client.createMyKey(asked)
					: await client.createKey({ ...asked, serviceAccount: childName(account, 'serviceAccounts') }),
			);
		},
	}),
	define({
		name: 'key list',
		summary: 'List API keys and when they were last used',
		options: ACCOUNT,
		examples: [['gpuaas key list --service-account acme/train/ci', 'Without it, your own']],
		async act(asked) {
			const keys = await keysOf(asked);
			return {
				json: { keys: keys.map((key) => json(KeySchema, key)) },
				header: ['KEY', 'NAME', 'SECRET', 'STATE', 'EXPIRES', 'LAST USED'],
				rows: keys.flatMap((key) =>
					key.versions.map((version) => [
						key.name,
						key.displayName,
						version.id,
						key.revokedReason === '' ? version.state : `${version.state}: ${key.revokedReason}`,
						ago(asked.io, version.expiresAt),
						version.lastUsedAt === undefined
							? 'never'
							: `${ago(asked.io, version.lastUsedAt)} from ${version.lastUsedFrom}`,
					]),
				),
				none: 'no keys; make one with: gpuaas key create',
			};
		},
	}),
	define({
		name: 'key rotate',
		summary: 'Make a second secret; the first goes on for the overlap',
		takes: ['KEY'],
		options: {
			...ACCOUNT,
			overlap: { type: 'string', value: 'DURATION', help: 'How long (default 24h, at most 7d; 0s ends it now)' },
		},
		examples: [['gpuaas key rotate KEY --overlap 1h > key', 'The name is as `key list` shows it']],
		async act(asked) {
			const { api, args, given, command } = asked;
			const key = (await keysOf(asked)).find(({ name }) => name === given[0]);
			if (key === undefined) throw usageError(command, `there is no key ${given[0]} here`);
			const overlapMs = durationMs(command, 'overlap', args.text('overlap'));
			const more = { etag: key.etag, ...(overlapMs === undefined ? {} : { overlap: durationFromMs(overlapMs) }) };
			const client = api.client(KeyService);
			return secretShown(
				isOwn(key.name)
					? await client.rotateMyKey({ keyId: key.name, ...more })
					: await client.rotateKey({ name: key.name, ...more }),
			);
		},
	}),
	define({
		name: 'key revoke',
		summary: 'Make a key useless at once, with all its secrets',
		takes: ['KEY'],
		options: { reason: { type: 'string', value: 'TEXT', help: 'Why' } },
		examples: [['gpuaas key revoke KEY --reason leaked', 'The name is as `key list` shows it']],
		async act({ api, args, given }) {
			const name = given[0] ?? '';
			const reason = args.text('reason') ?? '';
			const client = api.client(KeyService);
			const { key } = isOwn(name)
				? await client.revokeMyKey({ keyId: name, reason })
				: await client.revokeKey({ name, reason });
			return { json: { key: key === undefined ? null : json(KeySchema, key) }, text: `key ${name} is revoked` };
		},
	}),
];

/** People's keys stand nowhere: their name is an id. */
function isOwn(name: string): boolean {
	return !name.includes('/');
}

async function keysOf({ api, args }: Asked): Promise<readonly Key[]> {
	const client = api.client(KeyService);
	const account = args.text('service-account');
	if (account === undefined) {
		const page = (pageToken: string) => client.listMyKeys({ pageToken, pageSize: 1000 });
		return (await collect(page, ({ keys }) => keys, 100_000)).items;
	}
	const serviceAccount = childName(account, 'serviceAccounts');
	const page = (pageToken: string) => client.listKeys({ serviceAccount, pageToken, pageSize: 1000 });
	return (await collect(page, ({ keys }) => keys, 100_000)).items;
}

function secretShown({ key, secret }: { readonly key?: Key | undefined; readonly secret: string }): Shown {
	const note = `key ${key?.name ?? ''}; this is the only time that it is shown:`;
	return { json: { key: key === undefined ? null : json(KeySchema, key), secret }, text: secret, note };
}
