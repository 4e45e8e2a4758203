import { AuditHeadSchema, AuditRecordSchema, AuditService } from '../../proto/gen/gpuaas/audit/v1/audit_pb.ts';
import { collect, connect } from '../client.ts';
import { type Command, take, usageError } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { printJson, printTable, write } from '../io.ts';
import { ago, json } from '../show.ts';
import { readAnchors, verifyAudit } from '../verify-audit.ts';

const list: Command = {
	name: 'audit list',
	summary: 'Show the newest records: who did what, to what, with which outcome',
	options: {
		action: { type: 'string', value: 'ACTION', help: 'Only this action, or a prefix such as nodes.' },
		target: { type: 'string', value: 'TARGET', help: 'Only about this object, e.g. nodes/ID' },
		limit: { type: 'string', value: 'N', help: 'At most this many (default 50)' },
	},
	examples: [['gpuaas audit list --action nodes.', 'Everything done to nodes']],
	async run(args, io) {
		take(list, args);
		const limit = Number(args.text('limit') ?? '50');
		if (!Number.isInteger(limit) || limit < 1) throw usageError(list, '--limit is a whole number from 1');
		const { client } = await connect(io, args);
		const filter = { action: args.text('action') ?? '', target: args.text('target') ?? '', newestFirst: true };
		const { items } = await collect(
			(pageToken) => client(AuditService).listAuditRecords({ ...filter, pageToken, pageSize: Math.min(limit, 1000) }),
			(response) => response.records,
			limit,
		);
		if (args.flag('json')) await printJson(io, { records: items.map((record) => json(AuditRecordSchema, record)) });
		else {
			await printTable(
				io,
				['SEQ', 'WHEN', 'ACTOR', 'ACTION', 'TARGET', 'RESULT', 'REASON'],
				items.map((record) => [
					record.seq === 0n ? '-' : String(record.seq),
					ago(io, record.at),
					record.actor === '' ? record.actorKind : record.actor,
					record.action,
					record.target,
					record.result,
					record.decisionReason || '-',
				]),
				'no records match',
			);
		}
		return EXIT.ok;
	},
};

const exportLeaves: Command = {
	name: 'audit export',
	summary: 'Write every record and head as NDJSON, byte for byte, for a verifier of your own',
	usage: '',
	examples: [['gpuaas audit export > audit.ndjson', 'Leaves in order, then signed heads']],
	async run(args, io) {
		take(exportLeaves, args);
		const { client } = await connect(io, args);
		const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');
		for await (const { leaves } of client(AuditService).exportAudit({ fromSeq: 1n })) {
			for (const { seq, leaf, chain, clear } of leaves) {
				await printJson(io, {
					seq: String(seq),
					leaf: base64(leaf),
					chain: base64(chain),
					clear: Buffer.from(clear).toString('utf8'),
				});
			}
		}
		const { items } = await collect(
			(pageToken) => client(AuditService).listAuditHeads({ pageToken, pageSize: 1000 }),
			(response) => response.heads,
			1_000_000,
		);
		for (const head of items) await printJson(io, { head: json(AuditHeadSchema, head) });
		return EXIT.ok;
	},
};

const verify: Command = {
	name: 'audit verify',
	summary: 'Recompute the whole chain here and compare it with signed heads that left the database',
	description:
		"Finds a record that was altered, moved, inserted or removed, and a tail that was cut off. The strongest check names a heads file that the control plane cannot write, or an agent's kept head.",
	options: {
		anchors: {
			type: 'string',
			multiple: true,
			value: 'FILE',
			help: 'File of signed heads kept elsewhere; may be repeated (default: the heads file of a local control plane)',
		},
		key: {
			type: 'string',
			value: 'FILE',
			help: 'Verifier key of the log, C2SP note form (default: audit.vkey beside the heads of a local control plane)',
		},
	},
	examples: [
		['gpuaas audit verify', 'Of the control plane that gpuaas up started'],
		['gpuaas audit verify --anchors heads-from-elsewhere.jsonl --key audit.vkey', 'With heads that somebody else kept'],
	],
	exitCodes: ['1 also when anything was tampered with'],
	async run(args, io) {
		take(verify, args);
		const api = await connect(io, args);
		const anchors = await readAnchors(args.texts('anchors'), args.text('key'), api.context.data);
		const result = await verifyAudit(api.client(AuditService), anchors);
		if (args.flag('json')) await printJson(io, result);
		else await write(result.ok ? io.stdout : io.stderr, `${result.ok ? '' : 'gpuaas: '}${result.message}\n`);
		return result.ok ? EXIT.ok : EXIT.failed;
	},
};

export const commands: readonly Command[] = [list, exportLeaves, verify];
