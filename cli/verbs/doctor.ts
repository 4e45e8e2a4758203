import { constants } from 'node:fs';
import { access, readFile, stat, statfs } from 'node:fs/promises';
import { resolve } from 'node:path';
import { GpuaasError } from '../../kit/error.ts';
import { LoginService } from '../../proto/gen/gpuaas/login/v1/login_pb.ts';
import { SystemService } from '../../proto/gen/gpuaas/system/v1/system_pb.ts';
import { connect, SEE_DOCTOR } from '../client.ts';
import { type Arguments, type Command, take } from '../command.ts';
import { configDir, pickContext, readContexts } from '../contexts.ts';
import { askDaemon } from '../daemon.ts';
import { clockFinding } from '../doctor/clock.ts';
import { checkEnrollment } from '../doctor/enrollment.ts';
import { bad, type Finding, findingsText, ok } from '../doctor/finding.ts';
import { ownChecks } from '../doctor/own-checks.ts';
import { EXIT } from '../exit-codes.ts';
import { type Io, printJson, write } from '../io.ts';
import { providerProblem } from '../oidc/check-provider.ts';
import { readPorts, whoRuns } from '../up/data-folder.ts';
import { isFree } from '../up/ports.ts';

const FREE_BYTES_MIN = 1024 ** 3;

const doctor: Command = {
	name: 'doctor',
	summary: 'Check prerequisites, ports, clock, disk, certificates and store, and say what to do',
	options: {
		data: {
			type: 'string',
			value: 'DIR',
			help: 'Data folder of gpuaas up (default: that of the context, else ./.gpuaas)',
		},
		enroll: {
			type: 'string',
			value: 'HOST:PORT',
			help: 'Look at this enrollment listener, as a host would reach it (default: that of gpuaas up)',
		},
	},
	examples: [
		['gpuaas doctor', 'Before asking for help'],
		['gpuaas doctor --enroll cp.example:9444', 'Why can no host enroll? Finds a proxy that ends TLS on the way'],
	],
	exitCodes: ['1 also when a check failed'],
	async run(args, io) {
		take(doctor, args);
		const context = await pickContext(io, args.text('context')).catch(() => undefined);
		const data = resolve(io.cwd, args.text('data') ?? context?.data ?? '.gpuaas');
		const findings = [
			checkNode(),
			await checkProc(),
			...(await checkTools()),
			await checkCgroup(),
			...(args.text('data') === undefined ? [] : await checkFolder(data)),
			await checkDisk(data),
			...(await checkPorts(data)),
			...(await checkAgent(data)),
			await checkContextFile(io),
			...(await checkControlPlane(args, io)),
			...(await checkEnrollment(args.text('enroll'), data, context)),
			...(await checkProviders(args, io)),
		];
		const failed = findings.some((finding) => finding.result === 'fail');
		if (args.flag('json')) await printJson(io, { ok: !failed, findings });
		else await write(io.stdout, findingsText(io, findings));
		return failed ? EXIT.failed : EXIT.ok;
	},
};

function checkNode(): Finding {
	const major = Number(process.versions.node.split('.')[0]);
	return major >= 24
		? ok('node', `Node ${process.versions.node}`)
		: bad('node', 'fail', `Node ${process.versions.node}`, 'start by ./gpuaas, which uses the pinned Node 24');
}

async function checkProc(): Promise<Finding> {
	try {
		await readFile('/proc/self/stat');
		return ok('/proc', 'mounted');
	} catch {
		return bad('/proc', 'fail', 'not mounted', 'gpuaas needs Linux with /proc');
	}
}

async function checkTools(): Promise<Finding[]> {
	const findings: Finding[] = [];
	for (const tool of ['setpriv', 'prlimit']) {
		const places = ['/usr/bin', '/bin', '/usr/local/bin'].map((dir) => `${dir}/${tool}`);
		const found = await Promise.all(
			places.map((place) =>
				access(place, constants.X_OK).then(
					() => place,
					() => undefined,
				),
			),
		);
		const place = found.find((item) => item !== undefined);
		findings.push(
			place === undefined
				? bad(
						tool,
						'fail',
						'not found',
						'install util-linux: an agent starts every task through it, so that it keeps no privileges',
					)
				: ok(tool, place),
		);
	}
	return findings;
}

async function checkCgroup(): Promise<Finding> {
	try {
		const controllers = await readFile('/sys/fs/cgroup/cgroup.controllers', 'utf8');
		await access('/sys/fs/cgroup', constants.W_OK);
		return ok('cgroup v2', `controllers: ${controllers.trim() || 'none'}`);
	} catch {
		return bad(
			'cgroup v2',
			'warn',
			'not writable here',
			'limits of tasks are enforced by rlimits, which do not bound a whole process tree; run the agent under systemd on a cgroup v2 host for more',
		);
	}
}

/** One that was named: what was looked at beside it would say nothing of what was meant. */
async function checkFolder(data: string): Promise<Finding[]> {
	if ((await stat(data).catch(() => undefined)) !== undefined) return [];
	return [bad('data', 'warn', `${data} isn't there`, 'name another with --data; gpuaas up --data makes one')];
}

async function checkDisk(data: string): Promise<Finding> {
	let path = data;
	while ((await stat(path).catch(() => undefined)) === undefined && path !== '/') path = resolve(path, '..');
	const { bavail, bsize } = await statfs(path);
	const gib = ((bavail * bsize) / 1024 ** 3).toFixed(1);
	return bavail * bsize >= FREE_BYTES_MIN
		? ok('disk', `${gib} GiB free at ${path}`)
		: bad(
				'disk',
				'fail',
				`${gib} GiB free at ${path}`,
				'free at least 1 GiB, or choose another data folder with --data',
			);
}

async function checkPorts(data: string): Promise<Finding[]> {
	const running = await whoRuns(data);
	if (running !== undefined) return [ok('up', `process ${running.pid} runs ${data} since ${running.startedAt}`)];
	const findings: Finding[] = [];
	for (const [name, value] of Object.entries(await readPorts(data))) {
		findings.push(
			(await isFree(value))
				? ok(`port ${name}`, `${value} is free`)
				: bad(`port ${name}`, 'fail', `${value} is in use by another program`, `stop it, or start with --${name}-port`),
		);
	}
	return findings;
}

/** This host's own agent, from its data folder: certificate, clock, process host. */
async function checkAgent(data: string): Promise<Finding[]> {
	const folder = resolve(data, 'agent');
	if ((await stat(folder).catch(() => undefined)) === undefined) return [];
	try {
		const status = JSON.parse(await askDaemon('agent', ['status', '--json', '--set', `core.data=${folder}`])) as {
			readonly enrolled: boolean;
			readonly certificate: { readonly state: string; readonly message: string; readonly clockMessage: string };
		};
		const { state, message, clockMessage } = status.certificate;
		const found =
			state === 'valid' || !status.enrolled ? ok('agent', message) : bad('agent', 'fail', message, 'its log says more');
		return clockMessage === '' ? [found] : [found, bad('agent clock', 'fail', clockMessage, 'set the clock by NTP')];
	} catch (error) {
		return [bad('agent', 'fail', GpuaasError.from(error).message, 'enroll this host again with a new token')];
	}
}

async function checkContextFile(io: Io): Promise<Finding> {
	const path = `${configDir(io)}/contexts.json`;
	const found = await stat(path).catch(() => undefined);
	if (found === undefined) return bad('context', 'warn', 'none yet', 'start one with gpuaas up, or gpuaas login');
	if ((found.mode & 0o077) !== 0)
		return bad('context', 'fail', `${path} can be read by others`, `chmod 600 ${path}, and replace the key`);
	if (Object.keys((await readContexts(io).catch(() => undefined))?.contexts ?? { damaged: true }).length === 0)
		return bad('context', 'warn', 'none yet', 'start one with gpuaas up, or gpuaas login');
	const context = await pickContext(io, undefined).catch((error: unknown) => GpuaasError.from(error));
	return context instanceof GpuaasError
		? bad('context', 'warn', context.message, 'gpuaas context list')
		: ok('context', `${context.name} (${context.address})`);
}

/** The control plane through the API: whether it answers, its clock, and its own view of itself for whoever may see that. */
async function checkControlPlane(args: Arguments, io: Io): Promise<Finding[]> {
	try {
		const { client, context } = await connect(io, args);
		const sentAtMs = io.clock.now();
		let date: string | null = null;
		const onHeader = (headers: Headers) => {
			date = headers.get('date');
		};
		await client(SystemService).getVersion({}, { onHeader });
		const clock = clockFinding(date, sentAtMs, io.clock.now());
		return [ok('server', context.address), ...clock, ...(await ownChecks(client(SystemService)))];
	} catch (error) {
		const { reason, message } = GpuaasError.from(error);
		if (reason === 'CONFIG_INVALID') return [];
		const advice =
			reason === 'UNREACHABLE'
				? 'is it running? gpuaas up starts one on this host'
				: 'see: gpuaas whoami, gpuaas login';
		return [bad('server', 'fail', message.replace(SEE_DOCTOR, ''), advice)];
	}
}

/** Where people log in, when they do: asked from this host, which must reach it for a login. */
async function checkProviders(args: Arguments, io: Io): Promise<Finding[]> {
	const api = await connect(io, args).catch(() => undefined);
	const options = await api
		?.client(LoginService)
		.getLoginOptions({})
		.catch(() => undefined);
	const findings: Finding[] = [];
	for (const { issuer } of options?.providers ?? []) {
		const problem = await providerProblem(issuer, io.clock);
		findings.push(
			problem === undefined
				? ok('provider', issuer)
				: bad('provider', 'fail', `${issuer}: ${problem}`, 'log in from elsewhere, or see docs/login.md'),
		);
	}
	return findings;
}

export const commands: readonly Command[] = [doctor];
