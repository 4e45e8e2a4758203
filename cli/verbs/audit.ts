import { resolve } from 'node:path';
import { AuditHeadSchema, AuditRecordSchema, AuditService } from '../../proto/gen/gpuaas/audit/v1/audit_pb.ts';
import { exportedHeads, exportedLeaves } from '../audit-export-file.ts';
import { auditLeaves } from '../audit-leaves.ts';
import { collect, connect } from '../client.ts';
import { type Arguments, type Command, take, usageError } from '../command.ts';
import { pickContext } from '../contexts.ts';
import { askDaemon } from '../daemon.ts';
import { EXIT } from '../exit-codes.ts';
import { type Io, printJson, printTable, write } from '../io.ts';
import { countOf, type RecordCount } from '../record-count.ts';
import { ago, json } from '../show.ts';
import { type AuditCheck, readAnchors, readLocalKey, verifyAudit } from '../verify-audit.ts';
import { CONFIG_OPTIONS, configFlags, storeUrl } from './control-plane.ts';

const list: Command = {
	name: 'audit list',
	summary: 'Show the newest records: who did what, to what, with which outcome',
	options: {
		action: { type: 'string', value: 'ACTION', help: 'Only this action, or a prefix such as nodes.' },
		target: { type: 'string', value: 'TARGET', help: 'Only about this object, e.g. nodes/ID' },
		organization: { type: 'string', value: 'ORG', help: 'Only of this organization (default: all that you may see)' },
		limit: { type: 'string', value: 'N', help: 'At most this many (default 50)' },
	},
	description:
		"The platform sees all records; an organization's owners and admins see their organization's: what was done there, and what its own people were refused, wherever they tried it.",
	examples: [
		['gpuaas audit list --action nodes.', 'Everything done to nodes'],
		['gpuaas audit list --organization acme --json', 'Of one organization, for a program'],
	],
	async run(args, io) {
		take(list, args);
		const limit = Number(args.text('limit') ?? '50');
		if (!Number.isInteger(limit) || limit < 1) throw usageError(list, '--limit is a whole number from 1');
		const { client } = await connect(io, args);
		const filter = {
			action: args.text('action') ?? '',
			target: args.text('target') ?? '',
			organization: args.text('organization')?.replace(/^organizations\//, '') ?? '',
			newestFirst: true,
		};
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
	examples: [
		['gpuaas audit export > audit.ndjson', 'Leaves in order, then signed heads'],
		['gpuaas audit verify --file audit.ndjson --key audit.vkey', 'Check it anywhere, without any control plane'],
	],
	async run(args, io) {
		take(exportLeaves, args);
		const { client } = await connect(io, args);
		const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');
		// Not among the records, when those go to the terminal too.
		const count = countOf(io, 'exported', io.stdout.isTTY === true);
		let size = 0n;
		for await (const { seq, leaf, chain, clear } of count.each(auditLeaves(client(AuditService)))) {
			size = seq;
			await printJson(io, {
				seq: String(seq),
				leaf: base64(leaf),
				chain: base64(chain),
				clear: Buffer.from(clear).toString('utf8'),
			});
		}
		const { items } = await collect(
			(pageToken) => client(AuditService).listAuditHeads({ pageToken, pageSize: 1000 }),
			(response) => response.heads,
			1_000_000,
		);
		// One signed meanwhile covers records that aren't here: it would look like a tail that was cut off.
		for (const head of items) if (head.size <= size) await printJson(io, { head: json(AuditHeadSchema, head) });
		return EXIT.ok;
	},
};

const verify: Command = {
	name: 'audit verify',
	summary: 'Recompute the whole chain here and compare it with signed heads that left the database',
	description:
		"Finds a record that was altered, moved, inserted or removed, and a tail that was cut off. The strongest check names a heads file that the control plane cannot write, or an agent's kept head.",
	options: {
		file: {
			type: 'string',
			value: 'FILE',
			help: 'Check what audit export wrote instead of asking; its own heads count, unless --anchors names others',
		},
		anchors: {
			type: 'string',
			multiple: true,
			value: 'FILE',
			help: 'Signed heads kept elsewhere; may be repeated (default: those of a local control plane)',
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
		['gpuaas audit verify --file audit.ndjson --key audit.vkey', 'An export, without any control plane'],
	],
	exitCodes: ['1 also when anything was tampered with'],
	async run(args, io) {
		take(verify, args);
		const count = countOf(io, 'checked', args.flag('json'));
		const file = args.text('file');
		const result = await (file === undefined ? verifyServed(args, io, count) : verifyExport(args, io, file, count));
		if (args.flag('json')) await printJson(io, result);
		else await write(result.ok ? io.stdout : io.stderr, `${result.ok ? '' : 'gpuaas: '}${result.message}\n`);
		return result.ok ? EXIT.ok : EXIT.failed;
	},
};

async function verifyServed(args: Arguments, io: Io, count: RecordCount): Promise<AuditCheck> {
	const api = await connect(io, args);
	const anchors = await readAnchors(args.texts('anchors'), args.text('key'), api.context.data);
	return verifyAudit(count.each(auditLeaves(api.client(AuditService))), anchors);
}

async function verifyExport(args: Arguments, io: Io, file: string, count: RecordCount): Promise<AuditCheck> {
	const path = resolve(io.cwd, file);
	const data = args.text('key') === undefined ? (await pickContext(io, args.text('context'))).data : undefined;
	const others = args.texts('anchors');
	// The heads come last in the file, and the check needs them first: it is read twice.
	const anchors =
		others.length > 0
			? await readAnchors(others, args.text('key'), data)
			: { notes: await exportedHeads(path), key: await readLocalKey(args.text('key'), data) };
	return verifyAudit(count.each(exportedLeaves(path)), anchors);
}

/** Nothing is printed of its settings. */
const { 'print-config': _, ...WHICH_CONTROL_PLANE } = CONFIG_OPTIONS;

const newLog: Command = {
	name: 'audit new-log',
	summary: 'Begin a new log after a loss that cannot be restored, citing what was lost',
	description:
		'Run on the host of the control plane, as its user, while it is stopped. When signing was stopped because the database has fewer or other records than were signed, restore a newer backup first: this is the last resort. The records that are left stay; the heads of the former log are set aside as evidence, and the first record of the new one names who began it, why, and the head that was lost. Whoever holds that head can still show the loss. A log that is whole is never given up.',
	options: {
		...WHICH_CONTROL_PLANE,
		reason: { type: 'string', value: 'TEXT', help: 'Why nothing better can be restored; it goes on record' },
		store: { type: 'string', value: 'URL', help: 'postgres://... when the control plane uses PostgreSQL' },
	},
	examples: [
		[
			'gpuaas audit new-log --data .gpuaas/control-plane --reason "disk of gpu-cp1 died, newest backup is of May 3"',
			'The last resort after a loss',
		],
	],
	async run(args, io) {
		take(newLog, args);
		const reason = args.text('reason')?.trim() ?? '';
		if (reason === '') throw usageError(newLog, '--reason says why nothing better can be restored; it goes on record');
		if (reason.length > 1000) throw usageError(newLog, '--reason has at most 1000 characters');
		const flags = configFlags(args, { 'core.data': args.text('data'), 'store.url': storeUrl(newLog, args) });
		const answer = await askDaemon('control-plane', [...flags, '--', 'new-audit-log', reason]);
		const { log, lost, evidence } = JSON.parse(answer) as {
			log: number;
			lost: { size: number; why: string };
			evidence: string;
		};
		if (args.flag('json')) await printJson(io, { log, lostHeadSize: lost.size, why: lost.why, evidence });
		else {
			await write(
				io.stdout,
				`log ${log} is begun and cites the lost head of ${lost.size} records. Keep ${evidence}: it is evidence.\nStart the control plane again; gpuaas audit list --action audit.new-log shows the record.\n`,
			);
		}
		return EXIT.ok;
	},
};

export const commands: readonly Command[] = [list, exportLeaves, verify, newLog];
