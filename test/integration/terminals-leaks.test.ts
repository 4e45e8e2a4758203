import { readdirSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { sleep, systemClock } from '../../kit/clock.ts';
import { AttachMode } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { eventually } from '../eventually.ts';
import { TerminalsWorld } from './terminals-world.ts';
import { processes } from './up-world.ts';

/** A thousand terminals opened and closed through the whole product leave no process, descriptor, stream or row. */
let world: TerminalsWorld;
beforeAll(async () => {
	world = await TerminalsWorld.start();
});
afterAll(async () => {
	await world?.[Symbol.asyncDispose]();
});

/** More than a node may have streams: what each leaves open would be missing in the end (gateway/channel.ts). */
const ROUNDS = 105;
const AT_ONCE = 10;
const ROUND_MS_MIN = 110;
const MARK = 'gpuaas-leak-4711';

type Client = ReturnType<TerminalsWorld['client']>;

/** As a person's command does it, one of ten killed while it runs and one while it opens; the reason of the end. */
async function openAndClose(client: Client, index: number): Promise<string> {
	const size = index % 3 > 0 ? { size: { columns: 80, rows: 24 } } : {};
	const isLong = index % 10 >= 8;
	const line = isLong ? `sleep 1000 # ${MARK}` : `echo ${MARK}; exit 3`;
	const spec = { kind: { case: 'exec' as const, value: { argv: ['sh', '-c', line], ...size } } };
	const terminalId = (await client.openTerminal({ node: world.node, spec })).terminal?.id ?? '';
	const killed = index % 10 === 9 ? client.killTerminal({ terminalId }) : undefined;
	let over = () => {};
	const isOver = new Promise<void>((resolve) => {
		over = resolve;
	});
	async function* requests() {
		yield { terminalId, message: { case: 'attach' as const, value: { mode: AttachMode.CONTROL } } };
		await isOver;
	}
	let reason = '';
	try {
		for await (const { message } of client.attachTerminal(requests())) {
			if (message.case === 'attached' && isLong) await client.killTerminal({ terminalId });
			if (message.case === 'end') reason = message.value.reason;
		}
	} finally {
		over();
	}
	await killed;
	return reason;
}

interface Count {
	readonly descriptors: readonly number[];
	readonly threads: readonly number[];
}

function count(): Count {
	const pids = ['agent/main', 'agent/pty-host/main', 'control-plane/main'].map((name) => world.up.pids(name)[0] ?? 0);
	const threads = (pid: number) => Number(/^Threads:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
	return { descriptors: pids.map((pid) => readdirSync(`/proc/${pid}/fd`).length), threads: pids.map(threads) };
}

test('nothing is left of a thousand terminals', async () => {
	const client = world.client();
	const round = (from: number) =>
		Promise.all(Array.from({ length: AT_ONCE }, (_, index) => openAndClose(client, from + index)));
	// Connections, compiled code, the first files of the recordings: what stays is there by now.
	await round(0);
	const settled = async () => (await client.listTerminals({ node: world.node })).terminals.length === 0;
	await eventually('all have ended', settled);
	const before = count();
	const reasons: string[] = [];
	for (let each = 0; each < ROUNDS; each += 1) {
		const startedMs = systemClock.monotonic();
		reasons.push(...(await round(each * AT_ONCE)));
		// One principal may attach a hundred times a second.
		await sleep(systemClock, ROUND_MS_MIN - (systemClock.monotonic() - startedMs));
	}
	expect(reasons.filter((reason) => reason === 'TERMINAL_EXITED')).toHaveLength(ROUNDS * AT_ONCE * 0.8);
	expect(reasons.filter((reason) => reason === 'TERMINAL_KILLED')).toHaveLength(ROUNDS * AT_ONCE * 0.2);
	await eventually('all have ended', settled);
	await eventually('no process is left', () => processes().every(({ line }) => !line.includes(MARK)));
	await eventually('as many descriptors and threads as before', () => {
		const now = count();
		const more = now.descriptors.map((descriptors, index) => descriptors - (before.descriptors[index] ?? 0));
		const moreThreads = now.threads.map((threads, index) => threads - (before.threads[index] ?? 0));
		if (Math.max(...more, ...moreThreads) > 2) throw new Error(JSON.stringify({ before, now }));
		return true;
	});
	const channels = `${world.up.data}/agent/pty-host/channels`;
	await eventually('nothing of them is kept', () => readdirSync(channels).length === 0);
	const open = `${world.up.data}/control-plane/recordings/open`;
	await eventually('all recordings are sealed', () => readdirSync(open).length === 0);
});
