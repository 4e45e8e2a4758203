import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startProcessHost } from '../../agent/process-host/start.ts';
import { assert } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { cpuPerTask } from './cpu.ts';
import { parallel, timed, untilDone } from './measure.ts';
import { Product } from './product.ts';
import { atLeast, type Row } from './row.ts';

/**
 * Tasks a second through one agent with real processes, through the whole product as `gpuaas up` runs it: n tasks of
 * `/bin/true` submitted by the API, until the last has its signed, durable end. The reference is the process host alone:
 * as many launches of the same program, each with its durable record, over its socket.
 */
const SUBMITTERS = 32;
const LAUNCHES_AT_ONCE = 64;

export const row: Row = {
	name: 'agent-tasks',
	what: 'tasks through one agent with real processes, submitted by the API and durably ended',
	unit: '1/s',
	per: 'tasks',
	reference: 'launches by the process host alone',
	targets: [atLeast(300, '>= 300/s', ({ n, value }) => (n >= 300 ? value.median : undefined))],
	sizes: { full: [30, 300, 3000], quick: [30, 300] },
	repetitions: { full: 3, quick: 2 },
	budgetSeconds: 60,
	async open() {
		const folder = mkdtempSync(join(tmpdir(), 'gpuaas-bench-host-'));
		const product = await Product.open();
		const host = await startProcessHost({ directory: join(folder, 'host'), clock: systemClock });
		const throughAll = async (n: number) => {
			const batchId = uuidv7(systemClock.now(), systemRng);
			await parallel(n, SUBMITTERS, () => product.submit(batchId));
			await untilDone(n, async () => !(await product.isOpen(batchId)));
			const failed = await product.failed(batchId);
			assert(failed.length === 0, `a task ended with ${failed[0]?.reason}: ${failed[0]?.message}`);
		};
		await throughAll(100);
		return {
			async run(n) {
				const before = product.cpuUs();
				const ms = await timed(() => throughAll(n));
				const also = cpuPerTask(before, product.cpuUs(), n);
				const bareMs = await timed(() => launchAll(host, n));
				return { value: (n / ms) * 1000, reference: (n / bareMs) * 1000, also };
			},
			async [Symbol.asyncDispose]() {
				await host.shutdown(0);
				await host.closed;
				await product[Symbol.asyncDispose]();
				rmSync(folder, { recursive: true, force: true });
			},
		};
	},
};

type Host = Awaited<ReturnType<typeof startProcessHost>>;

async function launchAll(host: Host, count: number): Promise<void> {
	const ended = new Map<string, () => void>();
	const unsubscribe = host.subscribe((event) => {
		if (event.kind !== 'ENDED') return;
		void host.forget(event.result);
		ended.get(event.result.taskId)?.();
	});
	await parallel(count, LAUNCHES_AT_ONCE, async () => {
		const taskId = uuidv7(systemClock.now(), systemRng);
		const isOver = new Promise<void>((resolve) => ended.set(taskId, resolve));
		const outcome = await host.launch({
			taskId,
			attempt: 1,
			argv: ['/bin/true'],
			env: {},
			cwd: '/',
			timeoutMs: 60_000,
			graceMs: 1000,
			outputCapBytes: 64 * 1024,
		});
		assert(outcome.kind === 'STARTED', 'the program was started');
		await isOver;
		ended.delete(taskId);
	});
	unsubscribe();
}
