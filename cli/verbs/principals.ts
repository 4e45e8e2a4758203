import { type Principal, PrincipalSchema, PrincipalService } from '../../proto/gen/gpuaas/iam/v1/principals_pb.ts';
import { collect } from '../client.ts';
import type { Command } from '../command.ts';
import { type Asked, define, type Shown } from '../define.ts';
import type { Io } from '../io.ts';
import { newRequestId } from '../request-id.ts';
import { childName, scopeName } from '../scope-names.ts';
import { ago, json } from '../show.ts';

const PRINCIPALS_MAX = 100_000;

/** Users, members, groups, service accounts. */
export const userCommands: readonly Command[] = [
	define({
		name: 'user list',
		summary: 'List the users of the platform',
		examples: [['gpuaas user list', 'Everybody who ever logged in']],
		async act({ api, io }) {
			const client = api.client(PrincipalService);
			const page = (pageToken: string) => client.listUsers({ pageToken, pageSize: 1000 });
			return people(io, (await collect(page, ({ principals }) => principals, PRINCIPALS_MAX)).items, 'no users yet');
		},
	}),
	define({
		name: 'user suspend',
		summary: 'Stop every credential of a user, everywhere',
		takes: ['USER-ID'],
		options: { reason: { type: 'string', value: 'TEXT', help: 'Why' } },
		examples: [['gpuaas user suspend ID --reason fraud', 'What they hold stays for when they are resumed']],
		async act(asked) {
			const { id, etag } = await userOf(asked);
			const reason = asked.args.text('reason') ?? 'not said';
			const { principal } = await asked.api.client(PrincipalService).suspendUser({ userId: id, reason, etag });
			return one(principal, `user ${id} is suspended`);
		},
	}),
	define({
		name: 'user resume',
		summary: 'Let a suspended user in again',
		takes: ['USER-ID'],
		examples: [['gpuaas user resume ID', 'With everything that they held']],
		async act(asked) {
			const { id, etag } = await userOf(asked);
			const { principal } = await asked.api.client(PrincipalService).resumeUser({ userId: id, etag });
			return one(principal, `user ${id} is active`);
		},
	}),
];

export const memberCommands: readonly Command[] = [
	define({
		name: 'member list',
		summary: 'List the members of an organization',
		takes: ['ORGANIZATION'],
		examples: [['gpuaas member list acme', 'Their ids are what bindings and groups take']],
		async act({ api, io, given }) {
			const parent = scopeName(given[0] ?? '', 'organization');
			const client = api.client(PrincipalService);
			const page = (pageToken: string) => client.listMembers({ parent, pageToken, pageSize: 1000 });
			return people(io, (await collect(page, ({ principals }) => principals, PRINCIPALS_MAX)).items, 'no members yet');
		},
	}),
	define({
		name: 'member remove',
		summary: 'Take somebody out of an organization, with all that they hold in it',
		takes: ['ORGANIZATION', 'USER-ID'],
		examples: [['gpuaas member remove acme ID', 'The last owner stays']],
		async act({ api, given }) {
			const name = `${scopeName(given[0] ?? '', 'organization')}/members/${given[1]}`;
			await api.client(PrincipalService).removeMember({ name });
			return { json: {}, text: `${given[1]} is no member of ${given[0]}` };
		},
	}),
];

export const groupCommands: readonly Command[] = [
	define({
		name: 'group create',
		summary: 'Make a group',
		takes: ['NAME'],
		options: { 'display-name': { type: 'string', value: 'TEXT', help: 'What people read (default: the id)' } },
		examples: [['gpuaas group create acme/ml', 'Roles that are bound to it are held by its members']],
		async act({ api, args, given, io }) {
			const { parent, id } = partsOf(childName(given[0] ?? '', 'groups'));
			const displayName = args.text('display-name') ?? id;
			const asked = { parent, id, displayName, requestId: newRequestId(io) };
			const { principal } = await api.client(PrincipalService).createGroup(asked);
			return one(principal, `group ${given[0]} is made, its id is ${principal?.id}`);
		},
	}),
	define({
		name: 'group list',
		summary: 'List the groups of a scope',
		takes: ['SCOPE'],
		examples: [['gpuaas group list acme', 'Those of the organization itself']],
		async act({ api, io, given }) {
			const parent = scopeName(given[0] ?? '');
			const client = api.client(PrincipalService);
			const page = (pageToken: string) => client.listGroups({ parent, pageToken, pageSize: 1000 });
			return people(io, (await collect(page, ({ principals }) => principals, PRINCIPALS_MAX)).items, 'no groups here');
		},
	}),
	define({
		name: 'group show',
		summary: 'Show who is in a group',
		takes: ['NAME'],
		examples: [['gpuaas group show acme/ml', 'Its members']],
		async act({ api, io, given }) {
			const name = childName(given[0] ?? '', 'groups');
			const client = api.client(PrincipalService);
			const { principal } = await client.getGroup({ name });
			const page = (pageToken: string) => client.listGroupMembers({ name, pageToken, pageSize: 1000 });
			const { items } = await collect(page, ({ principals }) => principals, PRINCIPALS_MAX);
			return people(io, items, `group ${principal?.displayName ?? name} has no members`);
		},
	}),
	define({
		name: 'group add',
		summary: 'Put somebody into a group; you must hold what it holds',
		takes: ['NAME', 'PRINCIPAL-ID'],
		examples: [['gpuaas group add acme/ml ID', 'A member or a service account of the organization']],
		async act({ api, given }) {
			const name = childName(given[0] ?? '', 'groups');
			await api.client(PrincipalService).addGroupMember({ name, principalId: given[1] ?? '' });
			return { json: {}, text: `${given[1]} is in ${given[0]}` };
		},
	}),
	define({
		name: 'group remove',
		summary: 'Take somebody out of a group',
		takes: ['NAME', 'PRINCIPAL-ID'],
		examples: [['gpuaas group remove acme/ml ID', 'They lose what only the group gave']],
		async act({ api, given }) {
			const name = childName(given[0] ?? '', 'groups');
			await api.client(PrincipalService).removeGroupMember({ name, principalId: given[1] ?? '' });
			return { json: {}, text: `${given[1]} is not in ${given[0]}` };
		},
	}),
	define({
		name: 'group delete',
		summary: 'Delete a group with its bindings',
		takes: ['NAME'],
		examples: [['gpuaas group delete acme/ml', 'Its members stay members of the organization']],
		async act({ api, given }) {
			const name = childName(given[0] ?? '', 'groups');
			const client = api.client(PrincipalService);
			const { principal } = await client.getGroup({ name });
			await client.deleteGroup({ name, etag: principal?.etag ?? '' });
			return { json: {}, text: `group ${given[0]} is deleted` };
		},
	}),
];

export const serviceAccountCommands: readonly Command[] = [
	define({
		name: 'service-account create',
		summary: 'Make an identity for a program',
		takes: ['NAME'],
		options: { 'display-name': { type: 'string', value: 'TEXT', help: 'What people read (default: the id)' } },
		examples: [['gpuaas service-account create acme/train/ci', 'It lives and dies with the project acme/train']],
		async act({ api, args, given, io }) {
			const { parent, id } = partsOf(childName(given[0] ?? '', 'serviceAccounts'));
			const displayName = args.text('display-name') ?? id;
			const asked = { parent, id, displayName, requestId: newRequestId(io) };
			const { principal } = await api.client(PrincipalService).createServiceAccount(asked);
			return one(principal, `service account ${given[0]} is made, its id is ${principal?.id}`);
		},
	}),
	define({
		name: 'service-account list',
		summary: 'List the service accounts of a scope',
		takes: ['SCOPE'],
		examples: [['gpuaas service-account list acme/train', 'Those of the project itself']],
		async act({ api, io, given }) {
			const parent = scopeName(given[0] ?? '');
			const client = api.client(PrincipalService);
			const page = (pageToken: string) => client.listServiceAccounts({ parent, pageToken, pageSize: 1000 });
			const { items } = await collect(page, ({ principals }) => principals, PRINCIPALS_MAX);
			return people(io, items, 'no service accounts here');
		},
	}),
	define({
		name: 'service-account suspend',
		summary: 'Stop all its keys at once',
		takes: ['NAME'],
		options: { reason: { type: 'string', value: 'TEXT', help: 'Why' } },
		examples: [['gpuaas service-account suspend acme/train/ci --reason leak', 'Until it is resumed']],
		async act(asked) {
			const { name, etag, client } = await accountOf(asked);
			const reason = asked.args.text('reason') ?? 'not said';
			const { principal } = await client.suspendServiceAccount({ name, reason, etag });
			return one(principal, `service account ${asked.given[0]} is suspended`);
		},
	}),
	define({
		name: 'service-account resume',
		summary: 'Let its keys work again',
		takes: ['NAME'],
		examples: [['gpuaas service-account resume acme/train/ci', 'But for those that were revoked']],
		async act(asked) {
			const { name, etag, client } = await accountOf(asked);
			const { principal } = await client.resumeServiceAccount({ name, etag });
			return one(principal, `service account ${asked.given[0]} is active`);
		},
	}),
	define({
		name: 'service-account delete',
		summary: 'Delete it with its keys and bindings',
		takes: ['NAME'],
		examples: [['gpuaas service-account delete acme/train/ci', 'Its keys are revoked, never orphaned']],
		async act(asked) {
			const { name, etag, client } = await accountOf(asked);
			await client.deleteServiceAccount({ name, etag });
			return { json: {}, text: `service account ${asked.given[0]} is deleted` };
		},
	}),
];

/** `<scope>/<collection>/<id>` in two. */
function partsOf(name: string): { readonly parent: string; readonly id: string } {
	const parts = name.split('/');
	return { parent: parts.slice(0, -2).join('/'), id: parts.at(-1) ?? '' };
}

async function userOf({ api, given }: Asked): Promise<{ readonly id: string; readonly etag: string }> {
	const client = api.client(PrincipalService);
	const page = (pageToken: string) => client.listUsers({ pageToken, pageSize: 1000 });
	const { items } = await collect(page, ({ principals }) => principals, PRINCIPALS_MAX);
	return { id: given[0] ?? '', etag: items.find(({ id }) => id === given[0])?.etag ?? 'unknown' };
}

async function accountOf({ api, given }: Asked) {
	const client = api.client(PrincipalService);
	const name = childName(given[0] ?? '', 'serviceAccounts');
	const { principal } = await client.getServiceAccount({ name });
	return { name, etag: principal?.etag ?? '', client };
}

function one(principal: Principal | undefined, text: string): Shown {
	return { json: { principal: principal === undefined ? null : json(PrincipalSchema, principal) }, text };
}

function people(io: Io, principals: readonly Principal[], none: string): Shown {
	return {
		json: { principals: principals.map((principal) => json(PrincipalSchema, principal)) },
		header: ['ID', 'KIND', 'NAME', 'E-MAIL', 'STATE', 'SINCE'],
		rows: principals.map((principal) => [
			principal.id,
			principal.kind,
			principal.displayName,
			principal.email || '-',
			principal.suspended ? `suspended: ${principal.suspendedReason}` : 'active',
			ago(io, principal.joinedAt ?? principal.createdAt),
		]),
		none,
	};
}
