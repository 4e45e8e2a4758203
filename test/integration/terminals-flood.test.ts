import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sleep, systemClock } from '../../kit/clock.ts';
import { AttachMode } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { eventually } from '../eventually.ts';
import { TerminalsWorld } from './terminals-world.ts';

/** However much a program writes, and however little of it is taken: memory of no process grows with it. */
let world: TerminalsWorld;
beforeAll(async () => {
	world = await TerminalsWorld.start();
	// What is recorded is as slow as a disk, and bounded by it.
	await world.configure('recordings', 'mode = "off"');
});
afterAll(async () => {
	await world?.[Symbol.asyncDispose]();
});

const DAEMONS = ['agent/main', 'agent/pty-host/main', 'control-plane/main'] as const;

/** Resident memory of each daemon, in MB. */
function resident(): readonly number[] {
	return DAEMONS.map((name) => {
		const status = readFileSync(`/proc/${world.up.pids(name)[0]}/status`, 'utf8');
		return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) / 1024;
	});
}

/** Samples while `work` runs; the most that each daemon had. */
async function peakDuring(work: Promise<unknown>): Promise<readonly number[]> {
	let isOver = false;
	const watched = work.finally(() => {
		isOver = true;
	});
	const most = resident() as number[];
	while (!isOver) {
		for (const [index, now] of resident().entries()) most[index] = Math.max(most[index] ?? 0, now);
		await sleep(systemClock, 50);
	}
	await watched;
	return most;
}

/** Much flows, and then several times as much: the second peak of no daemon is above its first by what flowed. */
async function expectFlat(first: () => Promise<unknown>, second: () => Promise<unknown>): Promise<void> {
	const before = await peakDuring(first());
	const after = await peakDuring(second());
	const grown = after.map((peak, index) => Math.round(peak - (before[index] ?? 0)));
	for (const [index, name] of DAEMONS.entries()) expect(grown[index], name).toBeLessThan(GROWTH_MB_MAX);
}

/** By which heaps of the runtime differ from one minute to the next: half of what flows in the second phase, at most. */
const GROWTH_MB_MAX = 60;

type Client = ReturnType<TerminalsWorld['client']>;

/** A viewer that never acknowledges: what it was sent, and where its newest screen stands. */
class Silent {
	receivedBytes = 0;
	screenOffset = 0;
	readonly #stop = new AbortController();
	readonly #done: Promise<void>;

	constructor(client: Client, terminalId: string, reads: boolean) {
		const { signal } = this.#stop;
		const over = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
		async function* requests() {
			yield { terminalId, message: { case: 'attach' as const, value: { mode: AttachMode.OBSERVE } } };
			await over;
		}
		this.#done = (async () => {
			for await (const { message } of client.attachTerminal(requests(), { signal })) {
				if (message.case === 'output') this.receivedBytes += message.value.data.length;
				if (message.case === 'screen') this.screenOffset = Number(message.value.offset);
				if (!reads && message.case === 'attached') await over;
			}
		})().catch(() => {});
	}

	async leave(): Promise<void> {
		this.#stop.abort();
		await this.#done;
	}
}

describe('`yes` into a viewer that never acknowledges', () => {
	test('runs on, the others see it, and no memory grows with it', async () => {
		const client = world.client();
		const spec = {
			kind: { case: 'exec' as const, value: { argv: ['yes'], size: { columns: 80, rows: 24 } } },
		};
		const terminalId = (await client.openTerminal({ node: world.node, spec })).terminal?.id ?? '';
		const silent = new Silent(client, terminalId, true);
		await eventually('it runs', () => silent.receivedBytes > 0);
		// Of a connection of its own: nothing of it is taken from the socket either.
		const stuck = new Silent(world.newClient(), terminalId, false);
		/** Where a fresh look finds the program. */
		const offset = async () => {
			const look = new Silent(client, terminalId, true);
			await eventually('a screen', () => look.screenOffset > 0);
			await look.leave();
			return look.screenOffset;
		};
		const until = async (bytes: number) => {
			while ((await offset()) < bytes) await sleep(systemClock, 100);
		};
		await expectFlat(
			() => until(40_000_000),
			() => until(160_000_000),
		);
		expect(silent.receivedBytes).toBeLessThan(1_000_000);
		await client.killTerminal({ terminalId });
		await silent.leave();
		await stuck.leave();
	});
});

test('a flood of a gibibyte goes through a pipe whole, and no memory grows with it', async () => {
	const piped = world.local();
	await piped.sees('here>');
	const pour = async (mebibytes: number) => {
		piped.type(`$GPUAAS exec ${world.node} -n -- head -c ${mebibytes}M /dev/zero | wc -c\r`);
		await piped.sees(new RegExp(`^${mebibytes * 1024 ** 2}$`, 'm'), 240_000);
	};
	await expectFlat(
		() => pour(64),
		() => pour(1024),
	);
	piped[Symbol.dispose]();
});

test('a pipe through a command on the node is a pipe', async () => {
	using person = world.local();
	await person.sees('here>');
	person.type(
		'mkdir -p $GPUAAS_CONFIG_DIR/in && cd $GPUAAS_CONFIG_DIR/in && head -c 3000000 /dev/urandom > a && echo b > b\r',
	);
	person.type(
		`tar c . | $GPUAAS exec ${world.node} --cwd /tmp -- sh -c 'd=$(mktemp -d) && tar xC $d && tar cC $d . && rm -r $d' > ../out.tar; echo piped $\{PIPESTATUS[@]}\r`,
	);
	await person.sees(/^piped 0 0/m, 60_000);
	person.type('mkdir ../out && tar xf ../out.tar -C ../out && diff -r . ../out && echo sa""me\r');
	await person.sees(/^same/m);
	person.type(
		`echo ab | $GPUAAS exec ${world.node} -- sh -c 'cat; exit 9' | tr a-z A-Z; echo codes $\{PIPESTATUS[@]}\r`,
	);
	await person.sees(/^AB\s+codes 0 9 0/m);
	// Whoever reads no more ends what writes.
	person.type(`$GPUAAS exec ${world.node} -n -- yes | head -1; echo head $\{PIPESTATUS[@]}\r`);
	await person.sees(/^y\s+head 141 0/m);
});
