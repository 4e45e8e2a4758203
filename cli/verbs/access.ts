import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
	AccessService,
	BindingSchema,
	ExplainResponseSchema,
	GetRoleResponseSchema,
	GrantSchema,
	GuardrailSchema,
	RoleSchema,
} from '../../proto/gen/gpuaas/iam/v1/access_pb.ts';
import { collect } from '../client.ts';
import { type Command, durationMs, usageError } from '../command.ts';
import { define } from '../define.ts';
import { newRequestId } from '../request-id.ts';
import { childName, resourceName, scopeName, shortName } from '../scope-names.ts';
import { ago, fields, json } from '../show.ts';

const ITEMS_MAX = 100_000;

/** Who may do what: roles, bindings, guardrails, and why. */
export const roleCommands: readonly Command[] = [
	define({
		name: 'role list',
		summary: 'List the roles that can be bound at a scope',
		takes: ['SCOPE'],
		examples: [['gpuaas role list acme', 'Built-in ones and those of the organization']],
		async act({ api, given }) {
			const parent = scopeName(given[0] ?? '');
			const client = api.client(AccessService);
			const page = (pageToken: string) => client.listRoles({ parent, pageToken, pageSize: 1000 });
			const { items } = await collect(page, ({ roles }) => roles, ITEMS_MAX);
			return {
				json: { roles: items.map((role) => json(RoleSchema, role)) },
				header: ['ROLE', 'VERSION', 'PERMISSIONS'],
				rows: items.map((role) => [shortName(role.name), String(role.version), role.permissions.join(' ')]),
				none: 'no roles',
			};
		},
	}),
	define({
		name: 'role show',
		summary: 'Show a custom role with its versions',
		takes: ['NAME'],
		examples: [['gpuaas role show acme/trainer', 'What it held when']],
		async act({ api, given, io }) {
			const response = await api.client(AccessService).getRole({ name: childName(given[0] ?? '', 'roles') });
			const versions = response.versions.map(
				({ version, permissions, at }) => [`v${version} (${ago(io, at)})`, permissions.join(' ')] as const,
			);
			const text = fields([['role', response.role?.name], ['display name', response.role?.displayName], ...versions]);
			return { json: json(GetRoleResponseSchema, response), text };
		},
	}),
	define({
		name: 'role create',
		summary: 'Make a custom role of an organization',
		takes: ['NAME'],
		options: {
			permission: { type: 'string', multiple: true, value: 'NOUN.VERB', help: 'What it holds; may be repeated' },
			'display-name': { type: 'string', value: 'TEXT', help: 'What people read (default: the id)' },
		},
		examples: [['gpuaas role create acme/trainer --permission tasks.create', 'You must hold it yourself']],
		async act({ api, args, given, io }) {
			const name = childName(given[0] ?? '', 'roles');
			const id = name.slice(name.lastIndexOf('/') + 1);
			const { role } = await api.client(AccessService).createRole({
				parent: name.split('/').slice(0, -2).join('/'),
				id,
				displayName: args.text('display-name') ?? id,
				permissions: [...args.texts('permission')],
				requestId: newRequestId(io),
			});
			return { json: { role: role === undefined ? null : json(RoleSchema, role) }, text: `role ${given[0]} is made` };
		},
	}),
	define({
		name: 'role update',
		summary: 'Give a custom role other permissions; counts wherever it is bound',
		takes: ['NAME'],
		options: {
			permission: {
				type: 'string',
				multiple: true,
				value: 'NOUN.VERB',
				help: 'All that it shall hold; may be repeated',
			},
		},
		examples: [['gpuaas role update acme/trainer --permission tasks.get', 'A new version']],
		async act({ api, args, given }) {
			const name = childName(given[0] ?? '', 'roles');
			const client = api.client(AccessService);
			const etag = (await client.getRole({ name })).role?.etag ?? '';
			const { role } = await client.updateRole({ name, permissions: [...args.texts('permission')], etag });
			const text = `role ${given[0]} has version ${role?.version}`;
			return { json: { role: role === undefined ? null : json(RoleSchema, role) }, text };
		},
	}),
	define({
		name: 'role delete',
		summary: 'Delete a custom role that is bound nowhere',
		takes: ['NAME'],
		examples: [['gpuaas role delete acme/trainer', 'Its bindings go first']],
		async act({ api, given }) {
			const name = childName(given[0] ?? '', 'roles');
			const client = api.client(AccessService);
			await client.deleteRole({ name, etag: (await client.getRole({ name })).role?.etag ?? '' });
			return { json: {}, text: `role ${given[0]} is deleted` };
		},
	}),
];

export const bindingCommands: readonly Command[] = [
	define({
		name: 'binding list',
		summary: 'List who has which role at a scope',
		takes: ['SCOPE'],
		examples: [['gpuaas binding list acme/train', 'At exactly this project; roles further up count here too']],
		async act({ api, io, given }) {
			const parent = scopeName(given[0] ?? '');
			const client = api.client(AccessService);
			const page = (pageToken: string) => client.listBindings({ parent, pageToken, pageSize: 1000 });
			const { items } = await collect(page, ({ bindings }) => bindings, ITEMS_MAX);
			return {
				json: { bindings: items.map((binding) => json(BindingSchema, binding)) },
				header: ['NAME', 'PRINCIPAL', 'ROLE', 'ENDS', 'REASON'],
				rows: items.map((binding) => [
					binding.name,
					`${binding.displayName} (${binding.principalId})`,
					shortName(binding.role),
					binding.expiresAt === undefined ? '-' : ago(io, binding.expiresAt),
					binding.reason || '-',
				]),
				none: 'no roles are bound here',
			};
		},
	}),
	define({
		name: 'binding create',
		summary: 'Give a role at a scope and below it; you must hold all of it there',
		takes: ['SCOPE', 'PRINCIPAL-ID', 'ROLE'],
		options: {
			for: { type: 'string', value: 'DURATION', help: 'How long (default: until it is deleted)' },
			reason: { type: 'string', value: 'TEXT', help: 'Why' },
			permission: {
				type: 'string',
				multiple: true,
				value: 'NOUN.VERB',
				help: 'Only these of the role; may be repeated',
			},
		},
		examples: [
			['gpuaas binding create acme/train ID tenant.developer --for 8h --reason "on call"', 'Ends by itself'],
			['gpuaas binding create acme ID tenant.support --permission tasks.get --for 2h', 'Consent to support'],
		],
		async act({ api, args, given, io, command }) {
			const forMs = durationMs(command, 'for', args.text('for'));
			const { binding } = await api.client(AccessService).createBinding({
				parent: scopeName(given[0] ?? ''),
				principalId: given[1] ?? '',
				role: given[2] ?? '',
				permissions: [...args.texts('permission')],
				reason: args.text('reason') ?? '',
				requestId: newRequestId(io),
				...(forMs === undefined ? {} : { expiresAt: timestampFromMs(io.clock.now() + forMs) }),
			});
			const text = `${binding?.name ?? ''} is made`;
			return { json: { binding: binding === undefined ? null : json(BindingSchema, binding) }, text };
		},
	}),
	define({
		name: 'binding delete',
		summary: 'Take a role away',
		takes: ['NAME'],
		examples: [['gpuaas binding delete organizations/acme/bindings/ID', 'Counts with the next request']],
		async act({ api, given, command }) {
			const name = given[0] ?? '';
			const parent = name.split('/bindings/')[0] ?? '';
			const client = api.client(AccessService);
			const page = (pageToken: string) => client.listBindings({ parent, pageToken, pageSize: 1000 });
			const { items } = await collect(page, ({ bindings }) => bindings, ITEMS_MAX);
			const binding = items.find((one) => one.name === name);
			if (binding === undefined) throw usageError(command, `there is no binding ${name}`);
			await client.deleteBinding({ name, etag: binding.etag });
			return { json: {}, text: `${binding.displayName} has ${binding.role} at ${shortName(parent)} no more` };
		},
	}),
];

export const guardrailCommands: readonly Command[] = [
	define({
		name: 'guardrail list',
		summary: 'List what is forbidden at a scope',
		takes: ['SCOPE'],
		examples: [['gpuaas guardrail list acme', 'Those further up count here too']],
		async act({ api, given }) {
			const parent = scopeName(given[0] ?? '');
			const client = api.client(AccessService);
			const page = (pageToken: string) => client.listGuardrails({ parent, pageToken, pageSize: 1000 });
			const { items } = await collect(page, ({ guardrails }) => guardrails, ITEMS_MAX);
			return {
				json: { guardrails: items.map((guardrail) => json(GuardrailSchema, guardrail)) },
				header: ['NAME', 'FORBIDS', 'TO', 'REASON'],
				rows: items.map(({ name, permissions, principalKinds, reason }) => [
					name,
					permissions.join(' '),
					principalKinds.join(' ') || 'everybody',
					reason,
				]),
				none: 'nothing is forbidden here',
			};
		},
	}),
	define({
		name: 'guardrail create',
		summary: 'Forbid something at a scope and below it, whatever roles say',
		takes: ['SCOPE'],
		options: {
			forbid: { type: 'string', multiple: true, value: 'NOUN.VERB', help: 'tasks.create, or tasks.*; may be repeated' },
			to: {
				type: 'string',
				multiple: true,
				value: 'KIND',
				help: 'user, service_account or operator (default: everybody)',
			},
			reason: { type: 'string', value: 'TEXT', help: 'Why' },
		},
		examples: [
			['gpuaas guardrail create acme --forbid tasks.create --to service_account --reason audit', 'For programs'],
		],
		async act({ api, args, given, io }) {
			const { guardrail } = await api.client(AccessService).createGuardrail({
				parent: scopeName(given[0] ?? ''),
				permissions: [...args.texts('forbid')],
				principalKinds: [...args.texts('to')],
				reason: args.text('reason') ?? 'not said',
				requestId: newRequestId(io),
			});
			const shown = guardrail === undefined ? null : json(GuardrailSchema, guardrail);
			return { json: { guardrail: shown }, text: `${guardrail?.name ?? ''} is in force` };
		},
	}),
	define({
		name: 'guardrail delete',
		summary: 'Stop forbidding it',
		takes: ['NAME'],
		examples: [['gpuaas guardrail delete organizations/acme/guardrails/ID', 'Roles count again']],
		async act({ api, given }) {
			const name = given[0] ?? '';
			const client = api.client(AccessService);
			const parent = name.split('/guardrails/')[0] ?? '';
			const page = (pageToken: string) => client.listGuardrails({ parent, pageToken, pageSize: 1000 });
			const { items } = await collect(page, ({ guardrails }) => guardrails, ITEMS_MAX);
			await client.deleteGuardrail({ name, etag: items.find((one) => one.name === name)?.etag ?? 'unknown' });
			return { json: {}, text: `${name} is deleted` };
		},
	}),
];

export const iamCommands: readonly Command[] = [
	define({
		name: 'iam explain',
		summary: 'Why a call is allowed or refused, gate by gate',
		takes: ['METHOD', 'RESOURCE'],
		options: {
			as: { type: 'string', value: 'PRINCIPAL-ID', help: 'Somebody else (default: you, with the key in use)' },
			for: { type: 'string', value: 'SCOPE', help: 'Of AssignNode and MoveScope: who would get it' },
		},
		examples: [
			['gpuaas iam explain CreateTask nodes/gpu-07', 'For yourself, with the quota that it would take from'],
			['gpuaas iam explain AssignNode nodes/gpu-07 --for acme/train', 'With what acme/train is entitled to'],
			['gpuaas iam explain --as ID DeleteScope acme/train', 'For somebody else'],
		],
		async act({ api, args, given }) {
			const response = await api.client(AccessService).explain({
				principalId: args.text('as') ?? '',
				method: given[0] ?? '',
				resource: resourceName(given[1] ?? ''),
				scope: args.text('for') === undefined ? '' : scopeName(args.text('for') ?? ''),
			});
			const gates = response.gates.map(
				({ gate, outcome, detail }) => [gate, detail === '' ? outcome : `${outcome}: ${detail}`] as const,
			);
			const verdict = response.allowed ? 'allowed' : `refused: ${response.reason}`;
			const text = fields([['decision', verdict], ...gates, ['policy epoch', String(response.policyEpoch)]]);
			return { json: json(ExplainResponseSchema, response), text };
		},
	}),
	define({
		name: 'iam who-can',
		summary: 'Everybody who may make a call',
		takes: ['METHOD', 'RESOURCE'],
		examples: [['gpuaas iam who-can CreateTask nodes/gpu-07', 'With the role, and the group, that it comes from']],
		async act({ api, given }) {
			const client = api.client(AccessService);
			const asked = { method: given[0] ?? '', resource: resourceName(given[1] ?? '') };
			const page = (pageToken: string) => client.whoCan({ ...asked, pageToken, pageSize: 1000 });
			const { items } = await collect(page, ({ grants }) => grants, ITEMS_MAX);
			return {
				json: { grants: items.map((grant) => json(GrantSchema, grant)) },
				header: ['PRINCIPAL', 'KIND', 'NAME', 'ROLE', 'AT', 'THROUGH'],
				rows: items.map((grant) => [
					grant.principalId,
					grant.principalKind,
					grant.displayName,
					shortName(grant.role),
					shortName(grant.scope),
					grant.through || '-',
				]),
				none: 'nobody may',
			};
		},
	}),
];
