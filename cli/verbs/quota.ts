import {
	GetQuotaResponseSchema,
	type Quota,
	QuotaKind,
	QuotaSchema,
	QuotaService,
} from '../../proto/gen/gpuaas/quota/v1/quota_pb.ts';
import { collect } from '../client.ts';
import { type Command, usageError } from '../command.ts';
import { define } from '../define.ts';
import { scopeName, shortName } from '../scope-names.ts';
import { json } from '../show.ts';

const KINDS: Readonly<Record<string, QuotaKind>> = {
	nodes: QuotaKind.NODES,
	gpus: QuotaKind.GPUS,
	terminals: QuotaKind.TERMINALS,
	tasks: QuotaKind.TASKS,
	'api-keys': QuotaKind.API_KEYS,
};
const ITEMS_MAX = 100_000;
const HEADER = ['KIND', 'LIMIT', 'USED', 'RESERVED', 'LIMIT WITH THOSE ABOVE', 'STILL FREE'] as const;

/** How much organizations, departments and projects may have at once, and have. */
export const commands: readonly Command[] = [
	define({
		name: 'quota show',
		summary: 'Show what a scope may have, has, and can still add',
		takes: ['SCOPE'],
		examples: [['gpuaas quota show acme/train', 'The limits of its department and organization count too']],
		async act({ api, given }) {
			const response = await api.client(QuotaService).getQuota({ scope: scopeName(given[0] ?? '') });
			return {
				json: json(GetQuotaResponseSchema, response),
				header: HEADER,
				rows: response.quotas.map((quota) => [...cellsOf(quota), shown(quota.effectiveLimit), shown(quota.available)]),
				none: 'nothing is counted',
			};
		},
	}),
	define({
		name: 'quota usage',
		summary: 'Show what each scope at and below one has',
		takes: ['SCOPE'],
		examples: [['gpuaas quota usage acme', 'Who in acme has what']],
		async act({ api, given }) {
			const client = api.client(QuotaService);
			const scope = scopeName(given[0] ?? '');
			const page = (pageToken: string) => client.listQuotaUsage({ scope, pageToken, pageSize: 1000 });
			const { items } = await collect(page, ({ quotas }) => quotas, ITEMS_MAX);
			return {
				json: { quotas: items.map((quota) => json(QuotaSchema, quota)) },
				header: ['SCOPE', ...HEADER.slice(0, 4)],
				rows: items.map((quota) => [shortName(quota.scope), ...cellsOf(quota)]),
				none: 'nobody there has or had anything that is counted',
			};
		},
	}),
	define({
		name: 'quota set',
		summary: 'Limit how much a scope may have; what it has already stays',
		takes: ['SCOPE', 'KIND', 'LIMIT'],
		description:
			'KIND is nodes, gpus, terminals, tasks or api-keys; LIMIT a number, or none. It takes quotas.set above the scope: for an organization at the platform, for a department or project where it stands. A limit can be no larger than one above it.',
		examples: [
			['gpuaas quota set acme gpus 64', 'Of the whole organization; by the platform'],
			['gpuaas quota set acme/train terminals none', 'No limit of its own; those above it count'],
		],
		async act({ api, given, command }) {
			const [scopeText = '', kindText = '', limitText = ''] = given;
			const kind = KINDS[kindText];
			if (kind === undefined)
				throw usageError(command, `KIND ${JSON.stringify(kindText)} is none of ${Object.keys(KINDS).join(', ')}`);
			if (limitText !== 'none' && !/^\d{1,10}$/.test(limitText))
				throw usageError(command, `LIMIT ${JSON.stringify(limitText)} is neither a number nor none`);
			const client = api.client(QuotaService);
			const scope = scopeName(scopeText);
			const before = (await client.getQuota({ scope })).quotas.find((quota) => quota.kind === kind);
			const limit = limitText === 'none' ? {} : { limit: BigInt(limitText) };
			const { quota } = await client.setQuota({ scope, kind, etag: before?.etag ?? '', ...limit });
			const now = quota?.limit === undefined ? 'no limit of its own' : `at most ${quota.limit}`;
			const over =
				quota?.limit !== undefined && quota.used + quota.reserved > quota.limit
					? `; it has ${quota.used + quota.reserved}, which stay, and nothing is added until some end`
					: '';
			return {
				json: { quota: quota === undefined ? null : json(QuotaSchema, quota) },
				text: `${kindText} of ${scopeText}: ${now}${over}`,
			};
		},
	}),
];

function cellsOf({ kind, limit, used, reserved }: Quota): readonly string[] {
	const name = Object.entries(KINDS).find(([, value]) => value === kind)?.[0] ?? String(kind);
	return [name, shown(limit), String(used), String(reserved)];
}

function shown(limit: bigint | undefined): string {
	return limit === undefined ? '-' : String(limit);
}
