import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { InvitationSchema, PrincipalService } from '../../proto/gen/gpuaas/iam/v1/principals_pb.ts';
import { collect } from '../client.ts';
import { type Command, durationMs } from '../command.ts';
import { define } from '../define.ts';
import { scopeName } from '../scope-names.ts';
import { ago, json } from '../show.ts';

export const commands: readonly Command[] = [
	define({
		name: 'invitation create',
		summary: 'Invite somebody by e-mail address; you must hold what you give',
		description:
			'The token is shown once and is not stored. Whoever shows it must have logged in with that address, verified by their provider.',
		takes: ['SCOPE', 'EMAIL', 'ROLE'],
		options: { ttl: { type: 'string', value: 'DURATION', help: 'How long it may wait (default 7d, at most 30d)' } },
		examples: [['gpuaas invitation create acme/train ada@example.org tenant.developer', 'Send the token to Ada']],
		async act({ api, args, given, io, command }) {
			const ttlMs = durationMs(command, 'ttl', args.text('ttl'));
			const { invitation, invitationToken } = await api.client(PrincipalService).createInvitation({
				parent: scopeName(given[0] ?? ''),
				email: given[1] ?? '',
				role: given[2] ?? '',
				...(ttlMs === undefined ? {} : { ttl: durationFromMs(ttlMs) }),
			});
			const shown = invitation === undefined ? null : json(InvitationSchema, invitation);
			const note = `${invitation?.name ?? ''}, expires ${ago(io, invitation?.expiresAt)}; for ${given[1]} alone:`;
			return { json: { invitation: shown, invitationToken }, text: invitationToken, note };
		},
	}),
	define({
		name: 'invitation list',
		summary: 'List invitations to a scope',
		takes: ['SCOPE'],
		examples: [['gpuaas invitation list acme', 'Open ones and what became of the others']],
		async act({ api, io, given }) {
			const parent = scopeName(given[0] ?? '');
			const client = api.client(PrincipalService);
			const page = (pageToken: string) => client.listInvitations({ parent, pageToken, pageSize: 1000 });
			const { items } = await collect(page, ({ invitations }) => invitations, 100_000);
			return {
				json: { invitations: items.map((invitation) => json(InvitationSchema, invitation)) },
				header: ['NAME', 'E-MAIL', 'ROLE', 'STATE', 'EXPIRES'],
				rows: items.map(({ name, email, role, state, expiresAt }) => [name, email, role, state, ago(io, expiresAt)]),
				none: 'nobody is invited here',
			};
		},
	}),
	define({
		name: 'invitation revoke',
		summary: 'Make an invitation useless',
		takes: ['NAME'],
		examples: [['gpuaas invitation revoke organizations/acme/invitations/ID', 'If it is still open']],
		async act({ api, given }) {
			const { invitation } = await api.client(PrincipalService).revokeInvitation({ name: given[0] ?? '' });
			const shown = invitation === undefined ? null : json(InvitationSchema, invitation);
			return { json: { invitation: shown }, text: `${given[0]} is revoked` };
		},
	}),
];
