import { durationFromMs } from '@bufbuild/protobuf/wkt';
import {
	type PlanScopeDeletionResponse,
	PlanScopeDeletionResponseSchema,
	type Scope,
	ScopeKind,
	ScopeSchema,
	ScopeService,
	ScopeState,
} from '../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';
import { collect } from '../client.ts';
import { type Command, durationMs } from '../command.ts';
import { type Asked, define, type Shown } from '../define.ts';
import { newRequestId } from '../request-id.ts';
import { scopeName, shortName } from '../scope-names.ts';
import { ago, enumName, fields, json, when } from '../show.ts';

/** Organizations, departments and projects: the same verbs for each. */
type Kind = 'organization' | 'department' | 'project';
const KIND: Readonly<Record<Kind, ScopeKind>> = {
	organization: ScopeKind.ORGANIZATION,
	department: ScopeKind.DEPARTMENT,
	project: ScopeKind.PROJECT,
};
const EXAMPLE: Readonly<Record<Kind, string>> = {
	organization: 'acme',
	department: 'acme/research',
	project: 'acme/train',
};

export function scopeCommands(verb: string, kind: Kind): readonly Command[] {
	const commands = [createOf(verb, kind), listOf(verb, kind), showOf(verb, kind), renameOf(verb, kind)];
	if (kind !== 'organization') commands.push(moveOf(verb, kind));
	return [...commands, suspendOf(verb, kind), resumeOf(verb, kind), deleteOf(verb, kind)];
}

function createOf(verb: string, kind: Kind): Command {
	return define({
		name: `${verb} create`,
		summary: `Make ${kind === 'organization' ? 'an' : 'a'} ${kind}`,
		takes: ['NAME'],
		options: {
			'display-name': { type: 'string', value: 'TEXT', help: 'What people read (default: the id)' },
			...(kind === 'organization'
				? { owner: { type: 'string', value: 'USER-ID', help: 'A user who becomes its first owner' } }
				: { in: { type: 'string', value: 'DEPARTMENT', help: 'The department that it stands in' } }),
		},
		examples: [[`gpuaas ${verb} create ${EXAMPLE[kind]}`, 'The id is never used again, also after a deletion']],
		async act({ api, args, given, io }) {
			const name = scopeName(given[0] ?? '', kind);
			const id = name.slice(name.lastIndexOf('/') + 1);
			const inside = args.text('in');
			const home = kind === 'organization' ? 'platform' : name.split('/').slice(0, 2).join('/');
			const { scope } = await api.client(ScopeService).createScope({
				parent: inside === undefined ? home : scopeName(inside, 'department'),
				kind: KIND[kind],
				id,
				displayName: args.text('display-name') ?? id,
				ownerId: args.text('owner') ?? '',
				requestId: newRequestId(io),
			});
			return shown(scope, `${kind} ${shortName(name)} is made`);
		},
	});
}

function listOf(verb: string, kind: Kind): Command {
	return define({
		name: `${verb} list`,
		summary: `List the ${kind}s that you can see`,
		examples: [[`gpuaas ${verb} list`, 'By name']],
		async act({ api, io }) {
			const { items } = await collect(
				(pageToken) => api.client(ScopeService).listScopes({ pageToken, pageSize: 1000, kinds: [KIND[kind]] }),
				(response) => response.scopes,
				100_000,
			);
			return {
				json: { scopes: items.map((scope) => json(ScopeSchema, scope)) },
				header: ['NAME', 'DISPLAY NAME', 'IN', 'STATE', 'CREATED'],
				rows: items.map((scope) => [
					shortName(scope.name),
					scope.displayName,
					shortName(scope.parent),
					enumName(ScopeState, scope.state).replace('scope state ', ''),
					ago(io, scope.createdAt),
				]),
				none: `no ${kind}s that you can see; make one with: gpuaas ${verb} create`,
			};
		},
	});
}

function showOf(verb: string, kind: Kind): Command {
	return define({
		name: `${verb} show`,
		summary: `Show one ${kind}`,
		takes: ['NAME'],
		examples: [[`gpuaas ${verb} show ${EXAMPLE[kind]}`, 'State, place, and until when a deletion can be taken back']],
		async act(asked) {
			const scope = await current(asked, kind);
			return shown(
				scope,
				fields([
					['name', scope.name],
					['display name', scope.displayName],
					['in', scope.parent],
					['state', enumName(ScopeState, scope.state).replace('scope state ', '')],
					['why', scope.stateReason],
					['deleted', scope.deleteAt === undefined ? '' : when(asked.io, scope.deleteAt)],
					['created', when(asked.io, scope.createdAt)],
				]),
			);
		},
	});
}

function renameOf(verb: string, kind: Kind): Command {
	return define({
		name: `${verb} rename`,
		summary: `Change what people read; the name stays`,
		takes: ['NAME', 'DISPLAY-NAME'],
		examples: [[`gpuaas ${verb} rename ${EXAMPLE[kind]} "New name"`, 'Nothing that refers to it changes']],
		async act(asked) {
			const { name, etag } = await current(asked, kind);
			const displayName = asked.given[1] ?? '';
			const { scope } = await asked.api.client(ScopeService).renameScope({ name, displayName, etag });
			return shown(scope, `${kind} ${shortName(name)} is called ${displayName}`);
		},
	});
}

function moveOf(verb: string, kind: Kind): Command {
	return define({
		name: `${verb} move`,
		summary: `Move it within its organization`,
		takes: ['NAME', 'PARENT'],
		examples: [
			[`gpuaas ${verb} move ${EXAMPLE[kind]} acme/lab`, 'Into the department lab; who inherits access changes'],
		],
		async act(asked) {
			const { name, etag } = await current(asked, kind);
			const newParent = scopeName(asked.given[1] ?? '', 'department');
			const { scope } = await asked.api.client(ScopeService).moveScope({ name, newParent, etag });
			return shown(scope, `${kind} ${shortName(name)} stands in ${shortName(newParent)}`);
		},
	});
}

function suspendOf(verb: string, kind: Kind): Command {
	return define({
		name: `${verb} suspend`,
		summary: 'Stop all changes below it, and the keys of its service accounts',
		takes: ['NAME'],
		options: { reason: { type: 'string', value: 'TEXT', help: 'Why; shown to whoever looks' } },
		examples: [[`gpuaas ${verb} suspend ${EXAMPLE[kind]} --reason unpaid`, 'It can be looked at meanwhile']],
		async act(asked) {
			const { name, etag } = await current(asked, kind);
			const reason = asked.args.text('reason') ?? 'not said';
			const { scope } = await asked.api.client(ScopeService).suspendScope({ name, reason, etag });
			return shown(scope, `${kind} ${shortName(name)} is suspended`);
		},
	});
}

function resumeOf(verb: string, kind: Kind): Command {
	return define({
		name: `${verb} resume`,
		summary: 'End a suspension, or take a deletion back within its grace period',
		takes: ['NAME'],
		examples: [[`gpuaas ${verb} resume ${EXAMPLE[kind]}`, 'Everything is as it was before']],
		async act(asked) {
			const { name, etag } = await current(asked, kind);
			const { scope } = await asked.api.client(ScopeService).resumeScope({ name, etag });
			return shown(scope, `${kind} ${shortName(name)} is active`);
		},
	});
}

function deleteOf(verb: string, kind: Kind): Command {
	return define({
		name: `${verb} delete`,
		summary: 'Show what a deletion would take with it; with --plan, do it',
		takes: ['NAME'],
		options: {
			plan: { type: 'string', value: 'DIGEST', help: 'The plan that was shown' },
			grace: { type: 'string', value: 'DURATION', help: 'Until then it can be resumed (default 7d)' },
			reason: { type: 'string', value: 'TEXT', help: 'Why' },
		},
		examples: [
			[`gpuaas ${verb} delete ${EXAMPLE[kind]}`, 'Only shows the plan'],
			[
				`gpuaas ${verb} delete ${EXAMPLE[kind]} --plan DIGEST`,
				'Stops everything now, deletes it after the grace period',
			],
		],
		async act(asked) {
			const name = scopeName(asked.given[0] ?? '', kind);
			const planDigest = asked.args.text('plan');
			const client = asked.api.client(ScopeService);
			if (planDigest === undefined) return planShown(verb, asked, await client.planScopeDeletion({ name }));
			const graceMs = durationMs(asked.command, 'grace', asked.args.text('grace'));
			const { scope } = await client.deleteScope({
				name,
				planDigest,
				reason: asked.args.text('reason') ?? 'not said',
				...(graceMs === undefined ? {} : { grace: durationFromMs(graceMs) }),
			});
			return shown(scope, `${kind} ${shortName(name)} goes ${ago(asked.io, scope?.deleteAt)}; resume it until then`);
		},
	});
}

function planShown(verb: string, { given }: Asked, response: PlanScopeDeletionResponse): Shown {
	const { plan } = response;
	return {
		json: json(PlanScopeDeletionResponseSchema, response),
		text: fields([
			['scopes', String(plan?.scopes ?? 0n)],
			['service accounts and groups', String(plan?.principals ?? 0n)],
			['bindings', String(plan?.bindings ?? 0n)],
			['assigned nodes', String(plan?.openAssignments ?? 0n)],
			['among them', plan?.firstScopes.map(shortName).join(', ')],
			['to do it', `gpuaas ${verb} delete ${given[0]} --plan ${plan?.planDigest}`],
		]),
	};
}

async function current({ api, given }: Asked, kind: Kind): Promise<Scope> {
	const { scope } = await api.client(ScopeService).getScope({ name: scopeName(given[0] ?? '', kind) });
	if (scope === undefined) throw new Error('GetScope answered without a scope');
	return scope;
}

function shown(scope: Scope | undefined, text: string): Shown {
	return { json: { scope: scope === undefined ? null : json(ScopeSchema, scope) }, text };
}
