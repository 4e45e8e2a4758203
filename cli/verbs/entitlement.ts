import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type Entitlement, EntitlementSchema, EntitlementService } from '../../proto/gen/gpuaas/quota/v1/quota_pb.ts';
import { type Api, collect } from '../client.ts';
import { type Command, usageError } from '../command.ts';
import { define } from '../define.ts';
import { newRequestId } from '../request-id.ts';
import { scopeName } from '../scope-names.ts';
import { ago, json } from '../show.ts';

const ITEMS_MAX = 100_000;

/** What organizations and projects may have by contract. */
export const commands: readonly Command[] = [
	define({
		name: 'entitlement list',
		summary: 'List what a scope may have by contract, and when',
		takes: ['SCOPE'],
		examples: [['gpuaas entitlement list acme', 'Those at exactly this scope; what stands above counts too']],
		async act({ api, io, given }) {
			const items = await entitlementsOf(api, scopeName(given[0] ?? ''));
			return {
				json: { entitlements: items.map((item) => json(EntitlementSchema, item)) },
				header: ['ID', 'TO', 'STATE', 'FROM', 'UNTIL', 'REASON'],
				rows: items.map((item) => [
					idOf(item),
					item.subject,
					item.state,
					ago(io, item.from),
					item.until === undefined ? '-' : ago(io, item.until),
					item.reason || '-',
				]),
				none: 'nothing was granted here',
			};
		},
	}),
	define({
		name: 'entitlement grant',
		summary: 'Entitle a scope, and what is below it, to a GPU model or a feature',
		takes: ['SCOPE', 'SUBJECT'],
		description:
			'SUBJECT is gpu-model/NAME, with the name that the driver gives (gpuaas gpu list), gpu-model/* for all, or feature/host-mode. Nodes are assigned only to projects that are entitled to their GPU models. When an entitlement ends nothing is taken away; nothing new is given.',
		options: {
			from: { type: 'string', value: 'TIME', help: 'When it begins, RFC 3339 (default: now)' },
			until: { type: 'string', value: 'TIME', help: 'When it ends, RFC 3339 (default: never)' },
			reason: { type: 'string', value: 'TEXT', help: 'The contract or order' },
		},
		examples: [
			[
				'gpuaas entitlement grant acme "gpu-model/NVIDIA H100 80GB HBM3" --reason "order 4711"',
				'The whole organization',
			],
			['gpuaas entitlement grant acme/train feature/host-mode --until 2027-01-01T00:00:00Z', 'Root on its nodes'],
		],
		async act({ api, args, given, command, io }) {
			const time = (name: 'from' | 'until') => {
				const text = args.text(name);
				if (text === undefined) return {};
				const atMs = Date.parse(text);
				if (Number.isNaN(atMs)) throw usageError(command, `--${name} ${JSON.stringify(text)} is no RFC 3339 time`);
				return { [name]: timestampFromMs(atMs) };
			};
			const { entitlement } = await api.client(EntitlementService).grantEntitlement({
				parent: scopeName(given[0] ?? ''),
				subject: given[1] ?? '',
				reason: args.text('reason') ?? '',
				requestId: newRequestId(io),
				...time('from'),
				...time('until'),
			});
			return {
				json: { entitlement: entitlement === undefined ? null : json(EntitlementSchema, entitlement) },
				text: `${given[0]} is entitled to ${entitlement?.subject} (${entitlement?.state})`,
			};
		},
	}),
	define({
		name: 'entitlement end',
		summary: 'End an entitlement now; what was given by it stays',
		takes: ['SCOPE', 'ID'],
		examples: [['gpuaas entitlement end acme 0190...', 'No node of that model is assigned by it from now on']],
		async act({ api, given }) {
			const [scope = '', id = ''] = given;
			const found = (await entitlementsOf(api, scopeName(scope))).find((item) => idOf(item) === id);
			const name = found?.name ?? `${scopeName(scope)}/entitlements/${id}`;
			const asked = { name, etag: found?.etag ?? 'unknown' };
			const { entitlement } = await api.client(EntitlementService).endEntitlement(asked);
			return {
				json: { entitlement: entitlement === undefined ? null : json(EntitlementSchema, entitlement) },
				text: `the entitlement of ${scope} to ${entitlement?.subject} has ended`,
			};
		},
	}),
];

async function entitlementsOf(api: Api, parent: string): Promise<readonly Entitlement[]> {
	const client = api.client(EntitlementService);
	const page = (pageToken: string) => client.listEntitlements({ parent, pageToken, pageSize: 1000 });
	return (await collect(page, ({ entitlements }) => entitlements, ITEMS_MAX)).items;
}

function idOf({ name }: Entitlement): string {
	return name.slice(name.lastIndexOf('/') + 1);
}
