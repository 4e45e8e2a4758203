import { existsSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { create, toBinary } from '@bufbuild/protobuf';
import { OutputUploader } from '../../agent/control/output-uploader.ts';
import type { StoredIdentity } from '../../agent/identity/stored-identity.ts';
import type { Journal } from '../../agent/journal/journal.ts';
import { SqliteJournal } from '../../agent/journal/sqlite.ts';
import { keepHost } from '../../agent/process-host/keeper.ts';
import { startProcessHost } from '../../agent/process-host/start.ts';
import { DeviceGuard } from '../../agent/tasks/device-guard.ts';
import { demoPolicy, type Policy, parsePolicy } from '../../agent/tasks/policy.ts';
import type { ProcessHost } from '../../agent/tasks/process-host.ts';
import { TaskRunner } from '../../agent/tasks/runner.ts';
import { RUNNER_LIMITS_DEFAULT, type RunnerLimits, type RunnerPlatform } from '../../agent/tasks/runner-deps.ts';
import { DispatchReconciler } from '../../control-plane/reconcilers/dispatch.ts';
import type { TaskRow } from '../../control-plane/store/port/tasks.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { type Logger, silentLogger } from '../../kit/log.ts';
import { bootId } from '../../kit/process-identity.ts';
import { type TaskSpec, TaskSpecSchema } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { startWorld, type TestAgent, type World, type WorldOptions } from './link-world.ts';

/**
 * Tasks from the queue to the receipt with everything real: SQLite on both sides, gateway and link over TLS, process
 * host and programs. Only the API is missing: tasks are inserted as it would insert them.
 */
export interface TasksWorld extends AsyncDisposable {
	readonly world: World;
	readonly dispatch: DispatchReconciler;
	/** Enrolled, with its gateway, and not yet started. */
	newNode(): Promise<Node>;
	submit(
		nodeId: string,
		spec: Parameters<typeof create<typeof TaskSpecSchema>>[1],
		change?: Partial<TaskRow>,
	): Promise<string>;
	task(id: string): Promise<TaskRow>;
	/** The task once `until` holds for it. */
	wait(id: string, until: (task: TaskRow) => boolean): Promise<TaskRow>;
	ended(id: string): Promise<TaskRow>;
}

export interface Node {
	readonly identity: StoredIdentity;
	/** Of the identity's files. */
	readonly identityFolder: string;
	readonly folder: string;
	start(options?: NodeOptions): Promise<RunningNode>;
}

export interface NodeOptions {
	readonly policy?: Policy;
	readonly limits?: Partial<RunnerLimits>;
	readonly platform?: Partial<RunnerPlatform>;
	readonly journal?: Journal;
	/** Of the task side. */
	readonly log?: Logger;
	readonly isOffline?: boolean;
	readonly connect?: () => Promise<ProcessHost>;
}

export interface RunningNode {
	readonly runner: TaskRunner;
	readonly journal: Journal;
	readonly agent: TestAgent;
	stop(): Promise<void>;
}

export const OPEN: readonly string[] = ['queued', 'leased', 'running', 'cancelling'];
export const ME = userInfo().username;

export function platform(change: Partial<RunnerPlatform> = {}): RunnerPlatform {
	return {
		bootId: bootId(),
		agentVersion: 'test',
		ownUser: ME,
		findHome: () => '/',
		isExecutable: () => true,
		realPath,
		rebooter: {
			refusal: 'this is a test',
			reboot: () => Promise.reject(new Error('a test never restarts the machine')),
		},
		recentLog: { written: 0, text: () => 'a line of the agent\n' },
		injectFaults: () => {},
		...change,
	};
}

function realPath(path: string): string | undefined {
	return existsSync(path) ? realpathSync.native(path) : undefined;
}

export async function startTasksWorld(options: WorldOptions = {}): Promise<TasksWorld> {
	const folder = mkdtempSync(join(tmpdir(), 'gpuaas-tasks-'));
	const world = await startWorld(options);
	const dispatch = new DispatchReconciler(world.app);
	const gateway = await world.startGateway({ onSessionOpen: (opened) => dispatch.onSessionOpen(opened) });
	const running = new Set<RunningNode>();
	const hosts: string[] = [];
	let nodes = 0;
	const task = async (id: string) => present(await world.store.read((tx) => tx.tasks.get(id)), 'the task is stored');
	const wait: TasksWorld['wait'] = async (id, until) => {
		const changed = Promise.withResolvers<TaskRow>();
		const look = () => void task(id).then((row) => (until(row) ? changed.resolve(row) : undefined), changed.reject);
		const unsubscribe = world.app.bus.subscribe('tasks.changed', ({ key }) => (key === id ? look() : undefined));
		look();
		return await changed.promise.finally(unsubscribe);
	};
	return {
		world,
		dispatch,
		task,
		wait,
		ended: (id) => wait(id, ({ state }) => !OPEN.includes(state)),
		async newNode() {
			const identity = await world.enroll({ gateways: [`127.0.0.1:${gateway.port}`] });
			nodes += 1;
			const path = join(folder, `node-${nodes}`);
			hosts.push(path);
			return {
				identity,
				identityFolder: world.folder(`agent-${nodes}`),
				folder: path,
				start: (how) => startNode(world, identity, path, running, how),
			};
		},
		async submit(nodeId, spec, change = {}) {
			const row = taskRow(nodeId, create(TaskSpecSchema, spec), change);
			await world.store.unit((tx) => tx.tasks.insert(row));
			world.app.bus.publish({ topic: 'tasks.queued', key: nodeId });
			return row.id;
		},
		async [Symbol.asyncDispose]() {
			for (const node of [...running]) await node.stop();
			for (const path of hosts) await stopHost(path);
			await dispatch[Symbol.asyncDispose]();
			await world[Symbol.asyncDispose]();
			rmSync(folder, { recursive: true, force: true });
		},
	};
}

/** The pid of the node's process host, while one lives. */
export async function hostPid(folder: string): Promise<number | undefined> {
	const { readDirectoryLock } = await import('../../kit/directory-lock.ts');
	const found = readDirectoryLock(join(folder, 'host'));
	return found?.alive ? found.lock.pid : undefined;
}

async function stopHost(folder: string): Promise<void> {
	const pid = await hostPid(folder).catch(() => undefined);
	if (pid !== undefined) process.kill(pid, 'SIGKILL');
}

async function startNode(
	world: World,
	identity: StoredIdentity,
	folder: string,
	running: Set<RunningNode>,
	options: NodeOptions = {},
): Promise<RunningNode> {
	const { mkdirSync } = await import('node:fs');
	mkdirSync(folder, { recursive: true, mode: 0o700 });
	const journal = options.journal ?? new SqliteJournal({ path: join(folder, 'journal.db') });
	const policy = options.policy ?? parsePolicy(demoPolicy(ME), 'agent.policy.toml');
	const runner = new TaskRunner({
		clock: systemClock,
		log: options.log ?? silentLogger,
		identity,
		journal,
		policy,
		devices: new DeviceGuard({ clock: systemClock, log: silentLogger, policy }),
		platform: platform(options.platform),
		limits: { ...RUNNER_LIMITS_DEFAULT, ...options.limits },
	});
	const stopping = new AbortController();
	const connect = options.connect ?? (() => startProcessHost({ directory: join(folder, 'host'), clock: systemClock }));
	const kept = keepHost(
		{ clock: systemClock, rng: systemRng, log: silentLogger, name: 'process host', connect, user: runner },
		stopping.signal,
	);
	const agent = world.agent(identity, { journal, commands: runner });
	const uploader = new OutputUploader({ clock: systemClock, rng: systemRng, log: silentLogger, output: runner.output });
	uploader.start(stopping.signal);
	agent.control.onConnection((connection) => uploader.setConnection(connection));
	if (!options.isOffline) agent.start();
	const node: RunningNode = {
		runner,
		journal,
		agent,
		async stop() {
			running.delete(node);
			stopping.abort();
			await agent.stop();
			await kept;
			await runner[Symbol.asyncDispose]();
			journal.close();
		},
	};
	running.add(node);
	return node;
}

export function run(...argv: string[]): Parameters<typeof create<typeof TaskSpecSchema>>[1] {
	return { kind: { case: 'run', value: { argv } } };
}

const KINDS: Readonly<Record<string, TaskRow['kind']>> = {
	collectBundle: 'collect_bundle',
	reboot: 'reboot',
	injectFault: 'inject_fault',
};

export function taskRow(nodeId: string, spec: TaskSpec, change: Partial<TaskRow> = {}): TaskRow {
	const nowMs = systemClock.now();
	return {
		id: uuidv7(nowMs, systemRng),
		nodeId,
		state: 'queued',
		kind: KINDS[spec.kind.case ?? 'run'] ?? 'run',
		spec: toBinary(TaskSpecSchema, spec),
		createdBy: 'somebody',
		attempt: 0,
		attemptsMax: 1,
		fencingToken: 0,
		timeoutMs: 60_000,
		outputBytesMax: 1024 * 1024,
		createdAtMs: nowMs,
		queueDeadlineMs: nowMs + 3_600_000,
		leaseUntilMs: null,
		acceptedAtMs: null,
		startedAtMs: null,
		endedAtMs: null,
		exitCode: null,
		signal: null,
		reason: '',
		message: '',
		outputBytes: 0,
		outputDroppedBytes: 0,
		outputComplete: false,
		limitsEnforcedBy: '',
		cancelRequestedAtMs: null,
		cancelGraceMs: null,
		batchId: '',
		correlationId: 'correlation-1',
		custody: 'platform',
		assignmentId: null,
		organization: null,
		project: null,
		generation: 1,
		...change,
	};
}
