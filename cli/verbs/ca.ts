import {
	type CertificateAuthority,
	CertificateAuthoritySchema,
	CertificateService,
	RotationPhase,
	RotationStep,
} from '../../proto/gen/gpuaas/certificates/v1/certificates_pb.ts';
import { connect } from '../client.ts';
import { type Arguments, type Command, take, usageError } from '../command.ts';
import { askDaemon } from '../daemon.ts';
import { EXIT } from '../exit-codes.ts';
import { type Io, printJson, printTable, write } from '../io.ts';
import { newRequestId } from '../request-id.ts';
import { ago, enumName, fields, json } from '../show.ts';
import { CONFIG_OPTIONS, configFlags, storeUrl } from './control-plane.ts';

async function print(args: Arguments, io: Io, authority: CertificateAuthority | undefined): Promise<number> {
	if (authority === undefined) return EXIT.failed;
	if (args.flag('json')) {
		await printJson(io, { authority: json(CertificateAuthoritySchema, authority) });
		return EXIT.ok;
	}
	await write(
		io.stdout,
		fields([
			['trust domain', authority.trustDomain],
			['rotation', enumName(RotationPhase, authority.phase)],
			['trust bundle', `sequence ${authority.bundleSeq}`],
			['since', authority.phaseSince === undefined ? '' : ago(io, authority.phaseSince)],
			['waiting for', authority.laggards.join(', ')],
			['next', authority.outlook],
			['pins', authority.pins.join(', ')],
		]),
	);
	await printTable(
		io,
		['PURPOSE', 'STATUS', 'CUSTODY', 'ALGORITHM', 'EXPIRES', 'KEY'],
		authority.keys.map((key) => [
			key.purpose,
			key.status,
			key.custody,
			key.algorithm,
			ago(io, key.notAfter),
			key.keyId.slice(0, 16),
		]),
		'no keys',
	);
	return EXIT.ok;
}

const status: Command = {
	name: 'ca status',
	summary: 'Show the keys of the certificate authority, its rotation, and who it waits for',
	examples: [['gpuaas ca status', 'Before each step of a rotation']],
	async run(args, io) {
		take(status, args);
		const { client } = await connect(io, args);
		return print(args, io, (await client(CertificateService).getCertificateAuthority({})).authority);
	},
};

const STEPS: Readonly<Record<string, RotationStep>> = {
	prepare: RotationStep.PREPARE,
	activate: RotationStep.ACTIVATE,
	drain: RotationStep.DRAIN,
	taint: RotationStep.TAINT,
	revoke: RotationStep.REVOKE,
	rollback: RotationStep.ROLLBACK,
};

const rotate: Command = {
	name: 'ca rotate',
	summary: 'Take one step of a rotation of the issuing CA',
	usage: `${Object.keys(STEPS).join('|')}`,
	description:
		'prepare makes and distributes the next CA, activate issues from it, drain makes nodes renew, taint refuses the old one, revoke removes it. Each step waits for all nodes: a refused one names who is missing. rollback is possible until taint.',
	options: {
		waive: { type: 'string', multiple: true, value: 'NODE', help: 'Go on without this node; name each laggard' },
		reason: { type: 'string', value: 'TEXT', help: 'Why; goes into the audit log' },
	},
	examples: [
		['gpuaas ca rotate prepare', 'The first step'],
		['gpuaas ca rotate taint --waive gpu-07 --reason "in repair"', 'Without one node that is off'],
	],
	async run(args, io) {
		const [word = ''] = take(rotate, args, 'STEP');
		const step = STEPS[word];
		if (step === undefined) throw usageError(rotate, `${JSON.stringify(word)} is not a step`);
		const { client } = await connect(io, args);
		const response = await client(CertificateService).rotateCertificateAuthority({
			step,
			waiveNodes: [...args.texts('waive')],
			reason: args.text('reason') ?? '',
			requestId: newRequestId(io),
		});
		return print(args, io, response.authority);
	},
};

/** Nothing is printed of its settings. */
const { 'print-config': _, ...WHICH_CONTROL_PLANE } = CONFIG_OPTIONS;

const renew: Command = {
	name: 'ca renew',
	isLocal: true,
	summary: 'Make new issuing CAs after the old ones have ended, on the host of the control plane',
	description:
		'Run as the user of the control plane. A control plane with self_rotation (the default) does this by itself when it starts; this is for one whose rotation is turned off, or was kept from it. Nothing is reachable then: the certificates of the listeners have ended with the CAs. The root stays, so contexts and join tokens stay valid, and nodes come back by their join state once the control plane runs. It goes on record as an operator of this host. CAs that have not ended are never replaced like this.',
	options: {
		...WHICH_CONTROL_PLANE,
		store: { type: 'string', value: 'URL', help: 'postgres://... when the control plane uses PostgreSQL' },
	},
	examples: [
		['gpuaas ca renew --config /etc/gpuaas/control-plane.toml', 'Then start the control plane again'],
		['gpuaas ca renew --data .gpuaas/control-plane', 'Of one that gpuaas up started'],
	],
	async run(args, io) {
		take(renew, args);
		const flags = configFlags(args, { 'core.data': args.text('data'), 'store.url': storeUrl(renew, args) });
		const answer = JSON.parse(await askDaemon('control-plane', [...flags, '--', 'renew-authority'])) as {
			phase: string;
			notAfter: string;
		};
		if (args.flag('json')) await printJson(io, answer);
		else {
			await write(
				io.stdout,
				`there are new issuing CAs, until ${answer.notAfter}. Start the control plane again; its nodes come back by themselves: gpuaas node list\n`,
			);
		}
		return EXIT.ok;
	},
};

export const commands: readonly Command[] = [status, rotate, renew];
