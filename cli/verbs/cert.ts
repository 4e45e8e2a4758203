import {
	CertificateKind,
	CertificateSchema,
	CertificateService,
	CertificateState,
	RevokeCertificateResponseSchema,
} from '../../proto/gen/gpuaas/certificates/v1/certificates_pb.ts';
import { collect, connect } from '../client.ts';
import { type Command, take, usageError } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { printJson, printTable, write } from '../io.ts';
import { ago, enumName, json } from '../show.ts';

const list: Command = {
	name: 'cert list',
	summary: 'List certificates',
	options: { node: { type: 'string', short: 'n', value: 'NODE', help: 'Only of this node' } },
	examples: [['gpuaas cert list -n gpu-07', 'Current, pending, superseded and revoked ones']],
	async run(args, io) {
		take(list, args);
		const { client } = await connect(io, args);
		const { items } = await collect(
			(pageToken) =>
				client(CertificateService).listCertificates({ pageToken, pageSize: 1000, node: args.text('node') ?? '' }),
			(response) => response.certificates,
			100_000,
		);
		if (args.flag('json')) await printJson(io, { certificates: items.map((item) => json(CertificateSchema, item)) });
		else {
			await printTable(
				io,
				['SERIAL', 'KIND', 'STATE', 'SUBJECT', 'EXPIRES', 'ISSUER KEY'],
				items.map((item) => [
					item.serial,
					enumName(CertificateKind, item.kind),
					enumName(CertificateState, item.state),
					item.subjectId,
					ago(io, item.notAfter),
					item.issuerKeyId.slice(0, 16),
				]),
				'no certificates yet',
			);
		}
		return EXIT.ok;
	},
};

const revoke: Command = {
	name: 'cert revoke',
	summary: 'Deny a certificate everywhere; a live stream that uses it ends at once',
	usage: 'SERIAL --reason TEXT',
	options: { reason: { type: 'string', value: 'TEXT', help: 'Why; goes into the audit log' } },
	examples: [['gpuaas cert revoke 5f3a... --reason "key copied off the host"', 'The node must enroll again']],
	async run(args, io) {
		const [serial = ''] = take(revoke, args, 'SERIAL');
		const reason = args.text('reason');
		if (reason === undefined) throw usageError(revoke, '--reason is missing: it goes into the audit log');
		const { client } = await connect(io, args);
		const response = await client(CertificateService).revokeCertificate({ serial, reason });
		if (args.flag('json')) await printJson(io, json(RevokeCertificateResponseSchema, response));
		else await write(io.stdout, `certificate ${serial} is revoked; ${response.streamsClosed} live stream(s) ended\n`);
		return EXIT.ok;
	},
};

export const commands: readonly Command[] = [list, revoke];
