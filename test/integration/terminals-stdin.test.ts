import { readFileSync, rmSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../eventually.ts';
import { TerminalsWorld } from './terminals-world.ts';
import { Started } from './up-world.ts';

/** What is piped into a program arrives once and in order, whoever finds the new control plane first. */
let world: TerminalsWorld;
beforeAll(async () => {
	world = await TerminalsWorld.start();
});
afterAll(async () => {
	await world?.[Symbol.asyncDispose]();
});

/** What is said of the way there: that it broke, and that it is back. */
const WAY = /^gpuaas: (.*; trying again|connected again|.* can't be reached now; waiting|.* is reached again)\n/gm;

/** `gpuaas exec` that writes what it is given to a file of its node. */
class Feed {
	readonly path = `${world.up.root}-fed`;
	readonly #exec: Started;
	#sent = '';

	constructor() {
		const argv = ['exec', world.node, '--', 'sh', '-c', 'cat > "$0"', this.path];
		this.#exec = new Started(argv, world.up.env(), [], undefined, 'pipe');
	}

	get pids(): readonly number[] {
		return [this.#exec.child.pid as number];
	}

	lines(count: number): void {
		const from = this.#sent.split('\n').length;
		const text = Array.from({ length: count }, (_, index) => `line ${from + index}\n`).join('');
		this.#sent += text;
		this.#exec.child.stdin?.write(text);
	}

	async arrives(): Promise<void> {
		await eventually('all of it arrives', () => readFileSync(this.path, 'utf8') === this.#sent);
	}

	async isWhole(): Promise<void> {
		this.#exec.child.stdin?.end();
		const { code, stderr } = await this.#exec.ended;
		expect({ code, stderr: stderr.replaceAll(WAY, '') }).toEqual({ code: 0, stderr: '' });
		const got = readFileSync(this.path, 'utf8');
		expect(got.length).toBe(this.#sent.length);
		expect(got).toBe(this.#sent);
		rmSync(this.path);
	}
}

function signalTo(pids: readonly number[], signal: NodeJS.Signals): void {
	for (const pid of pids) process.kill(pid, signal);
}

const FIRST: readonly [string, (feed: Feed) => readonly number[], (id: string) => Promise<boolean>][] = [
	[
		'the command',
		() => world.up.pids('agent/main'),
		async (id) => (await world.client().getTerminal({ terminalId: id })).terminal?.viewers === 1,
	],
	['the node', ({ pids }) => pids, async () => (await world.up.run('exec', world.node, '-n', '--', 'true')).code === 0],
];

test.each(FIRST)(
	'a pipe loses and repeats nothing over kill -9 of the control plane, when %s is back first',
	async (_name, late, isBack) => {
		const feed = new Feed();
		feed.lines(20_000);
		await feed.arrives();
		const id = await world.openId();
		const stopped = late(feed);
		signalTo(stopped, 'SIGSTOP');
		// On its way: some of it may be with the control plane that dies.
		feed.lines(1000);
		await world.restart('control-plane/main');
		feed.lines(1000);
		await eventually('the other is back', () => isBack(id), 120_000);
		signalTo(stopped, 'SIGCONT');
		feed.lines(1000);
		await feed.isWhole();
	},
	300_000,
);
