import type { DescService } from '@bufbuild/protobuf';
import { type Client, createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { readContexts } from '../../cli/contexts.ts';
import { ApiSessions } from '../../cli/sessions.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { type Task, TaskService, TaskState } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { UpWorld } from '../integration/up-world.ts';
import { cpuUsOf } from './cpu.ts';

/** The whole product as `gpuaas up` starts it: control plane, agent and process host are processes; and its API. */
export class Product implements AsyncDisposable {
	readonly tasks: Client<typeof TaskService>;
	readonly #world: UpWorld;
	readonly #node: string;

	private constructor(world: UpWorld, node: string, tasks: Client<typeof TaskService>) {
		this.#world = world;
		this.#node = node;
		this.tasks = tasks;
	}

	static async open(): Promise<Product> {
		const world = new ProfiledUp();
		const { node } = await world.up();
		const { contexts, current } = await readContexts({ env: world.env() });
		const { address, caPem, key } = present(contexts[current], 'up makes a context');
		const transport = createConnectTransport({
			baseUrl: address,
			httpVersion: '2',
			sessionManager: new ApiSessions(address, {}, { ca: caPem }),
			interceptors: [
				(next) => (request) => {
					request.header.set('authorization', `Bearer ${key}`);
					return next(request);
				},
			],
		});
		const client = <S extends DescService>(service: S) => createClient(service, transport);
		return new Product(world, node, client(TaskService));
	}

	/** The id of a new task that runs `/bin/true`. */
	async submit(batchId: string): Promise<string> {
		const { task } = await this.tasks.createTask({
			node: this.#node,
			spec: { kind: { case: 'run', value: { argv: ['/bin/true'] } } },
			requestId: uuidv7(systemClock.now(), systemRng),
			batchId,
		});
		return present(task, 'a task was made').id;
	}

	/** CPU time so far, in µs, of each process; the host's with that of the tasks' processes. */
	cpuUs(): Record<string, number> {
		const of = (text: string) => this.#world.pids(text).reduce((sum, pid) => sum + cpuUsOf(pid), 0);
		return {
			controlPlane: of('control-plane/main'),
			agent: of('agent/main'),
			processHost: of('process-host/main'),
		};
	}

	/** Whether some task of the batch is still open. */
	async isOpen(batchId: string): Promise<boolean> {
		const { tasks } = await this.tasks.listTasks({ states: OPEN, batchId, pageSize: 1 });
		return tasks.length > 0;
	}

	/** How many tasks of the batch didn't end well. */
	async failed(batchId: string): Promise<readonly Task[]> {
		return (await this.tasks.listTasks({ states: BAD, batchId, pageSize: 10 })).tasks;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.#world[Symbol.asyncDispose]();
	}
}

const OPEN = [TaskState.QUEUED, TaskState.LEASED, TaskState.RUNNING, TaskState.CANCELLING];
const BAD = [TaskState.FAILED, TaskState.CANCELLED, TaskState.TIMED_OUT, TaskState.LOST, TaskState.REFUSED];

/** Daemons make profiles when the row does. */
export class ProfiledUp extends UpWorld {
	readonly #more: Readonly<Record<string, string>>;

	constructor(more: Readonly<Record<string, string>> = {}) {
		super();
		this.#more = more;
	}

	override env(): Record<string, string> {
		const { NODE_OPTIONS } = process.env;
		return { ...super.env(), ...(NODE_OPTIONS === undefined ? {} : { NODE_OPTIONS }), ...this.#more };
	}
}
