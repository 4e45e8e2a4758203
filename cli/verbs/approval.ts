import { readFile } from 'node:fs/promises';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import type { Client } from '@connectrpc/connect';
import {
	type Approval,
	ApprovalSchema,
	ApprovalService,
	ApprovalState,
} from '../../proto/gen/gpuaas/approvals/v1/approvals_pb.ts';
import { collect, connect } from '../client.ts';
import { type Arguments, type Command, durationMs, take, usageError } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { type Io, printJson, printTable, write } from '../io.ts';
import { ago, enumName, json } from '../show.ts';

const request: Command = {
	name: 'approval request',
	summary: 'Ask a second person to approve one call',
	description:
		'How a service account makes a call that needs a recent login with a second factor. The approval covers exactly this request of yours, once; then make the call with --approval ID.',
	usage: 'METHOD',
	options: {
		request: { type: 'string', value: 'FILE', help: 'File with the request as JSON (default: {})' },
		reason: { type: 'string', value: 'TEXT', help: 'Why, for the person who decides' },
		ttl: { type: 'string', value: 'DURATION', help: 'How long it may wait and be used (default 15m, at most 1h)' },
	},
	examples: [
		[
			'gpuaas approval request gpuaas.tokens.v1.TokenService/CreateToken --reason "rack 7"',
			'Prints the id; then: gpuaas token create --approval ID',
		],
	],
	async run(args, io) {
		const [method = ''] = take(request, args, 'METHOD');
		const reason = args.text('reason');
		if (reason === undefined) throw usageError(request, '--reason is missing: somebody has to decide about it');
		const file = args.text('request');
		const ttlMs = durationMs(request, 'ttl', args.text('ttl'));
		const { client } = await connect(io, args);
		const { approval } = await client(ApprovalService).createApproval({
			method,
			requestJson: file === undefined ? '{}' : await readFile(file, 'utf8'),
			reason,
			...(ttlMs === undefined ? {} : { ttl: durationFromMs(ttlMs) }),
		});
		return await show(io, args, approval);
	},
};

const list: Command = {
	name: 'approval list',
	summary: 'List approvals: yours, or all that you may decide',
	examples: [['gpuaas approval list', 'Newest last']],
	async run(args, io) {
		take(list, args);
		const { client } = await connect(io, args);
		const { items } = await collect(
			(pageToken) => client(ApprovalService).listApprovals({ pageToken, pageSize: 1000 }),
			(response) => response.approvals,
			10_000,
		);
		if (args.flag('json')) await printJson(io, { approvals: items.map((item) => json(ApprovalSchema, item)) });
		else
			await printTable(
				io,
				['ID', 'STATE', 'REQUESTER', 'METHOD', 'EXPIRES', 'REASON'],
				items.map((item) => [
					item.id,
					enumName(ApprovalState, item.state),
					item.requesterId,
					item.method,
					ago(io, item.expiresAt),
					item.reason,
				]),
				'no approvals',
			);
		return EXIT.ok;
	},
};

const approve: Command = decision('approve', 'Approve a call that somebody else asked for', (api, decided) =>
	api.approveApproval(decided),
);
const reject: Command = decision('reject', 'Reject a call that somebody else asked for', (api, decided) =>
	api.rejectApproval(decided),
);

type Decide = (
	api: Client<typeof ApprovalService>,
	decided: { readonly approvalId: string; readonly reason: string },
) => Promise<{ readonly approval?: Approval | undefined }>;

function decision(verb: 'approve' | 'reject', summary: string, decide: Decide): Command {
	const command: Command = {
		name: `approval ${verb}`,
		summary,
		description:
			'Look at its request first (gpuaas approval list --json). You must be a person who may make that call, and neither who asks nor who answers for that service account.',
		usage: 'ID',
		options: { reason: { type: 'string', value: 'TEXT', help: 'Why; stands in the audit log' } },
		examples: [[`gpuaas approval ${verb} ID --reason "as agreed"`, 'Asks for your second factor where that is needed']],
		async run(args, io) {
			const [approvalId = ''] = take(command, args, 'ID');
			const reason = args.text('reason');
			if (reason === undefined) throw usageError(command, '--reason is missing');
			const { client } = await connect(io, args);
			const { approval } = await decide(client(ApprovalService), { approvalId, reason });
			return await show(io, args, approval);
		},
	};
	return command;
}

async function show(io: Io, args: Arguments, approval: Approval | undefined): Promise<number> {
	if (args.flag('json')) {
		await printJson(io, { approval: approval === undefined ? null : json(ApprovalSchema, approval) });
		return EXIT.ok;
	}
	await write(io.stderr, `${enumName(ApprovalState, approval?.state ?? 0)}: ${approval?.requestJson ?? ''}\n`);
	await write(io.stdout, `${approval?.id ?? ''}\n`);
	return EXIT.ok;
}

export const commands: readonly Command[] = [request, list, approve, reject];
