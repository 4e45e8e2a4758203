import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { sleep } from '../../kit/clock.ts';
import { GpuaasError } from '../../kit/error.ts';
import { uuidv7 } from '../../kit/ids.ts';
import { TaskService, TaskState } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { TokenService } from '../../proto/gen/gpuaas/tokens/v1/tokens_pb.ts';
import { type Api, apiOf } from '../client.ts';
import { type Arguments, type Command, port, take, usageError } from '../command.ts';
import { putContext } from '../contexts.ts';
import { askDaemon } from '../daemon.ts';
import { EXIT } from '../exit-codes.ts';
import { type Io, paint, printable, printJson, write } from '../io.ts';
import { announcement, commandName } from '../up/announcement.ts';
import { type DaemonChild, startDaemon } from '../up/children.ts';
import { startOnPorts } from '../up/claim-ports.ts';
import {
	type DataFolder,
	demoUser,
	describe,
	type Running,
	readPorts,
	takeFolder,
	whoRuns,
	writeSecret,
} from '../up/data-folder.ts';
import { type FirstTask, openTasks, runFirstTask, waitForNode } from '../up/first-run.ts';
import { endLeftDaemons, leftDaemons } from '../up/left-daemons.ts';
import { endHosts, hostsToEnd, type LeftHost, leftHosts } from '../up/left-hosts.ts';
import { isFree, PORT_NAMES, type Ports } from '../up/ports.ts';
import { chooseStore, keepStore, readStore } from '../up/store-choice.ts';
import { storeUrl } from './control-plane.ts';

/** How long tasks may go on after Ctrl-C. */
const STOP_GRACE_MS = 5000;
const OPEN_TASKS_MAX = 1000;
const LEVELS: ReadonlySet<string> = new Set(['debug', 'info', 'warn', 'error']);

const up: Command = {
	name: 'up',
	isLocal: true,
	summary: 'Start a control plane and this host as its first node, and run a first task',
	description:
		'Everything is in the data folder and stays there: run it again and it goes on with the same ports, nodes and records. Run it a second time while it runs, and it shows what is there. Ctrl-C stops everything.',
	options: {
		data: { type: 'string', value: 'DIR', help: 'Data folder (default ./.gpuaas)' },
		'api-port': { type: 'string', value: 'PORT', help: 'Port of the API (default: a free one, kept)' },
		'gateway-port': { type: 'string', value: 'PORT', help: 'Port for agents' },
		'enroll-port': { type: 'string', value: 'PORT', help: 'Port for enrollment' },
		'ops-port': { type: 'string', value: 'PORT', help: 'Port of metrics and health' },
		'log-level': {
			type: 'string',
			value: 'LEVEL',
			help: 'Of the logs of both daemons: debug, info (default), warn, error',
		},
		store: {
			type: 'string',
			value: 'URL',
			help: 'postgres://user@host/database instead of SQLite in the data folder, which remembers it',
		},
	},
	examples: [
		['gpuaas up', 'Everything on this host'],
		['gpuaas up --data /srv/gpuaas --api-port 8443', 'Elsewhere, on a port of your choice'],
		['gpuaas up --json', 'One JSON line once it is up, for scripts'],
	],
	async run(args, io) {
		take(up, args);
		const root = resolve(io.cwd, args.text('data') ?? '.gpuaas');
		const chosen = chosenPorts(args);
		const named = storeUrl(up, args);
		const store = named ?? (await readStore(root))?.url;
		const startedAt = new Date(io.clock.now()).toISOString();
		const release = await takeFolder(root, { startedAt, store }, uuidv7(io.clock.now(), io.rng));
		if (release === undefined) return attach(args, io, root, chosen);
		const before = leftHosts(root);
		try {
			return await start(args, io, root, chosen, await chooseStore(root, named));
		} finally {
			await endOwnHosts(args, io, root, before);
			release();
		}
	},
};

function chosenPorts(args: Arguments): Partial<Ports> {
	const entries = PORT_NAMES.map((name) => [name, port(up, `${name}-port`, args.text(`${name}-port`))] as const);
	return Object.fromEntries(entries.filter(([, value]) => value !== undefined));
}

function logLevel(args: Arguments): readonly string[] {
	const level = args.text('log-level');
	if (level === undefined) return [];
	if (!LEVELS.has(level)) throw usageError(up, `--log-level is one of ${[...LEVELS].join(', ')}`);
	return ['--set', `core.log_level=${level}`];
}

/** Progress for a person; a script that asked for JSON gets one line at the end and nothing before. */
function say(args: Arguments, io: Io, text: string): Promise<void> {
	return args.flag('json') ? Promise.resolve() : write(io.stderr, `${text}\n`);
}

async function start(
	args: Arguments,
	io: Io,
	root: string,
	chosen: Partial<Ports>,
	url: string | undefined,
): Promise<number> {
	await takeOver(args, io, root);
	const stored = await readPorts(root);
	for (const [name, value] of Object.entries({ ...stored, ...chosen })) {
		if (!(await isFree(value))) {
			throw new GpuaasError({
				code: 'FAILED_PRECONDITION',
				reason: 'ALREADY_EXISTS',
				message: `port ${value} (${name}) is in use by another program; stop it, or choose another with --${name}-port`,
			});
		}
	}
	const onRestart = (name: string) => (exit: { readonly code: number | null; readonly signal: string | null }) =>
		void say(args, io, `the ${name} ended (${exit.signal ?? `exit code ${exit.code}`}) and is started again`);
	await say(args, io, `starting the control plane (data in ${root})`);
	const isKept = url === undefined || (await readStore(root))?.used === true;
	if (!isKept) await keepStore(root, url, false);
	const sets = [...(url === undefined ? [] : ['--set', `store.url=${url}`]), ...logLevel(args)];
	const { folder, child } = await startOnPorts({
		root,
		chosen,
		policy: await askDaemon('agent', ['policy', demoUser()]),
		start: (folder) =>
			startDaemon({
				clock: io.clock,
				rng: io.rng,
				daemon: 'control-plane',
				root,
				argv: ['--config', folder.controlPlaneConfig, ...sets],
				logPath: folder.log('control-plane'),
				onRestart: onRestart('control plane'),
			}),
		ready: (daemon) => unlessInterrupted(io, daemon.ready()),
		onTaken: (names) => say(args, io, `another program took the port for ${names.join(' and ')}; choosing others`),
		signal: io.interrupt,
	});
	await using controlPlane = child;
	if (!isKept) await keepStore(root, url, true);
	const api = await saveContext(io, folder);
	await enrollHost(args, io, folder, api);
	await using agent = startDaemon({
		clock: io.clock,
		rng: io.rng,
		daemon: 'agent',
		root,
		argv: [
			'run',
			'--config',
			folder.agentConfig,
			'--set',
			'tasks.stop_host_with_agent=true',
			'--set',
			'terminal.stop_host_with_agent=true',
			...logLevel(args),
		],
		logPath: folder.log('agent'),
		onRestart: onRestart('agent'),
	});
	const { nodeId } = await unlessInterrupted(io, agent.ready());
	const node = await waitForNode(io, api, String(nodeId));
	await say(args, io, `this host is node ${node.name}; running a first task`);
	const first = await runFirstTask(io, api, node);
	await announce(args, io, folder, node.name, first);
	await untilInterrupted(io);
	await stop(args, io, api, agent, controlPlane);
	return EXIT.ok;
}

/** An `up` that was killed left its daemons behind, which nobody would start again; what runs on this host goes on. */
async function takeOver(args: Arguments, io: Io, root: string): Promise<void> {
	const left = leftDaemons(root);
	if (left.length === 0) return;
	const names = left.map(({ daemon, pid }) => `${daemon === 'agent' ? 'agent' : 'control plane'} (process ${pid})`);
	await say(args, io, `an earlier up was killed; taking over from its ${names.join(' and ')}`);
	await endLeftDaemons(io.clock, left);
}

/** What an agent left that was dead when it should have stopped: nobody else ends it, or knows of it. */
async function endOwnHosts(args: Arguments, io: Io, root: string, before: readonly LeftHost[]): Promise<void> {
	const left = leftHosts(root);
	const ending = hostsToEnd(left, before, io.interrupt.aborted);
	await endHosts(io.clock, ending);
	const staying = left.filter((host) => !ending.includes(host));
	if (staying.length === 0) return;
	const named = staying.map(({ name, pid }) => `${name} (process ${pid})`).join(' and ');
	await say(args, io, `what ran here before goes on in its ${named}; the next gpuaas up takes over`);
}

/** Ctrl-C while something starts ends the wait; what was started is stopped by its owner's scope. */
async function unlessInterrupted<T>(io: Io, work: Promise<T>): Promise<T> {
	const interrupted = Promise.withResolvers<never>();
	const onAbort = () =>
		interrupted.reject(
			new GpuaasError({
				code: 'CANCELLED',
				reason: 'CANCELLED',
				message: 'interrupted; everything was stopped',
				metadata: { exit: '130' },
			}),
		);
	io.interrupt.addEventListener('abort', onAbort, { once: true });
	try {
		return await Promise.race([work, interrupted.promise]);
	} finally {
		io.interrupt.removeEventListener('abort', onAbort);
	}
}

async function saveContext(io: Io, folder: DataFolder): Promise<Api> {
	const context = {
		address: `https://127.0.0.1:${folder.ports.api}`,
		caPem: await readFile(folder.ca, 'utf8'),
		key: (await readFile(folder.operatorKey, 'utf8')).trim(),
		data: folder.root,
	};
	await putContext(io, 'local', context);
	return apiOf(io, { ...context, name: 'local' });
}

/** What the data folder says of this host's agent. */
async function agentStatus(folder: DataFolder): Promise<{ readonly enrolled: boolean; readonly nodeId: string }> {
	return JSON.parse(await askDaemon('agent', ['status', '--json', '--config', folder.agentConfig]));
}

/** A join token for this host, unless it has an identity already. */
async function enrollHost(args: Arguments, io: Io, folder: DataFolder, api: Api): Promise<void> {
	if ((await agentStatus(folder)).enrolled) return;
	await say(args, io, 'enrolling this host with a one-time token');
	const { joinToken } = await api.client(TokenService).createToken({});
	await writeSecret(folder.joinToken, joinToken);
}

async function announce(
	args: Arguments,
	io: Io,
	folder: DataFolder,
	nodeName: string,
	first: FirstTask | undefined,
): Promise<void> {
	const { ports, root } = folder;
	if (args.flag('json')) {
		await printJson(io, {
			ready: true,
			data: root,
			context: 'local',
			api: `https://127.0.0.1:${ports.api}`,
			gateway: `127.0.0.1:${ports.gateway}`,
			enroll: `127.0.0.1:${ports.enroll}`,
			ops: `http://127.0.0.1:${ports.ops}`,
			ca: folder.ca,
			node: nodeName,
			firstTask:
				first === undefined
					? null
					: {
							id: first.task.id,
							exitCode: first.task.exitCode ?? null,
							reason: first.task.reason,
							message: first.task.message,
						},
		});
		return;
	}
	// Whoever attached ran no first task.
	const firstTask =
		first === undefined
			? ''
			: first.task.state === TaskState.SUCCEEDED
				? `${paint(io, 'green', 'ok')}: ${printable(first.output.trim())}`
				: `${paint(io, 'red', 'failed')}: ${printable(first.task.message || first.task.reason)}`;
	const bold = (text: string) => paint(io, 'bold', text);
	await write(io.stdout, announcement({ folder, nodeName, command: await commandName(io), firstTask, bold }));
}

function untilInterrupted(io: Io): Promise<void> {
	if (io.interrupt.aborted) return Promise.resolve();
	return new Promise((done) => io.interrupt.addEventListener('abort', () => done(), { once: true }));
}

/** Running tasks get 5 s, then they are cancelled; then agent, then control plane. Says what it does. */
async function stop(args: Arguments, io: Io, api: Api, agent: DaemonChild, controlPlane: DaemonChild): Promise<void> {
	await say(args, io, '\nstopping');
	try {
		await endTasks(args, io, api);
	} catch (error) {
		await say(args, io, `running tasks could not be looked up: ${GpuaasError.from(error).message}`);
	}
	await agent.stop();
	await controlPlane.stop();
	await say(args, io, 'everything is stopped; gpuaas up goes on from here');
}

async function endTasks(args: Arguments, io: Io, api: Api): Promise<void> {
	let open = await openTasks(api, OPEN_TASKS_MAX);
	if (open.length === 0) return;
	await say(
		args,
		io,
		`${open.length} running task(s) are cancelled in ${STOP_GRACE_MS / 1000} s; Ctrl-C again cancels them now`,
	);
	await waitForTasks(io, api, STOP_GRACE_MS, io.force);
	open = await openTasks(api, OPEN_TASKS_MAX);
	if (open.length === 0) return;
	await say(args, io, `cancelling ${open.length} task(s)`);
	const tasks = api.client(TaskService);
	await Promise.allSettled(open.map((task) => tasks.cancelTask({ taskId: task.id, grace: { seconds: 2n, nanos: 0 } })));
	await waitForTasks(io, api, 2 * STOP_GRACE_MS, new AbortController().signal);
}

async function waitForTasks(io: Io, api: Api, waitMaxMs: number, signal: AbortSignal): Promise<void> {
	const untilMs = io.clock.monotonic() + waitMaxMs;
	while (!signal.aborted && io.clock.monotonic() < untilMs) {
		if ((await openTasks(api, 1)).length === 0) return;
		await sleep(io.clock, 100, signal);
	}
}

function alreadyUp(root: string, running: Running | undefined, how: string, then: string): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'ALREADY_EXISTS',
		message: `${root} is already up (process ${running?.pid ?? '?'}) ${how}; stop it with Ctrl-C there, then ${then}`,
	});
}

/** Another `up` runs this folder: show its screen and stay until Ctrl-C or until it ends; it goes on without us. */
async function attach(args: Arguments, io: Io, root: string, chosen: Partial<Ports>): Promise<number> {
	const running = await whoRuns(root);
	const stored = await readPorts(root);
	for (const [name, value] of Object.entries(chosen)) {
		if (stored[name as keyof Ports] !== value) {
			throw alreadyUp(root, running, 'with other ports', `choose --${name}-port`);
		}
	}
	const store = storeUrl(up, args);
	if (store !== undefined && store !== running?.store) {
		throw alreadyUp(
			root,
			running,
			`with ${running?.store === undefined ? 'SQLite' : 'another store'}`,
			'choose --store',
		);
	}
	if (PORT_NAMES.some((name) => stored[name] === undefined)) {
		throw new GpuaasError({
			code: 'UNAVAILABLE',
			reason: 'UNREACHABLE',
			message: `${root} is being started by process ${running?.pid ?? '?'}; try again in a moment`,
		});
	}
	const folder = describe(root, stored as Ports);
	await say(args, io, `already up (process ${running?.pid ?? '?'}); attaching, Ctrl-C detaches`);
	const api = await saveContext(io, folder);
	const { nodeId } = await agentStatus(folder);
	const node = await waitForNode(io, api, nodeId);
	await announce(args, io, folder, node.name, undefined);
	if (args.flag('json')) return EXIT.ok;
	while (!io.interrupt.aborted && (await whoRuns(root)) !== undefined) await sleep(io.clock, 500, io.interrupt);
	return EXIT.ok;
}

export const commands: readonly Command[] = [up];
