import { MfaStatusSchema, PrincipalService } from '../../proto/gen/gpuaas/iam/v1/principals_pb.ts';
import { collect } from '../client.ts';
import type { Command } from '../command.ts';
import { define } from '../define.ts';
import { scopeName } from '../scope-names.ts';
import { ago, json } from '../show.ts';

const PEOPLE_MAX = 100_000;

/** Who logs in how strongly. */
export const mfaCommands: readonly Command[] = [
	define({
		name: 'iam mfa status',
		summary: 'How strongly people logged in last: of an organization, or of the platform',
		description:
			'Shows what the token of the last login said: its level (acr), its methods (amr) and when they were shown. Strong is what step-up takes. Nobody is asked: a person who logged in before and enrolled a second factor since shows as weak until the next login.',
		options: { organization: { type: 'string', value: 'ORG', help: 'Its members (default: all users)' } },
		examples: [
			['gpuaas iam mfa status', "All users; for the platform's operators and its security"],
			['gpuaas iam mfa status --organization acme', 'The members of acme; for its administrators'],
		],
		async act({ api, args, io }) {
			const parent = scopeName(args.text('organization') ?? 'platform');
			const client = api.client(PrincipalService);
			const page = (pageToken: string) => client.listMfaStatus({ parent, pageToken, pageSize: 1000 });
			const { items } = await collect(page, ({ statuses }) => statuses, PEOPLE_MAX);
			return {
				json: { statuses: items.map((status) => json(MfaStatusSchema, status)) },
				header: ['NAME', 'E-MAIL', 'LAST LOGIN', 'STRENGTH', 'LEVEL', 'METHODS', 'SHOWN', 'ID'],
				rows: items.map((status) => [
					`${status.displayName}${status.suspended ? ' (suspended)' : ''}`,
					status.email || '-',
					ago(io, status.lastLoginAt),
					status.state,
					status.acr || '-',
					status.amr.join(' ') || '-',
					ago(io, status.authenticatedAt),
					status.principalId,
				]),
				none: 'there is nobody',
			};
		},
	}),
];
