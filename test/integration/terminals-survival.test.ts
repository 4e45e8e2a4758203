import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../eventually.ts';
import { lacks } from '../tools.ts';
import { type Person, TerminalsWorld } from './terminals-world.ts';

/** A full-screen program and a pipe go on over the death of each part, and over a new certificate of the node. */
let world: TerminalsWorld;
beforeAll(async () => {
	world = await TerminalsWorld.start();
});
afterAll(async () => {
	await world?.[Symbol.asyncDispose]();
});

/**
 * How often the agent has connected. With a new certificate it lets the first connection go once the second one is
 * welcome; one that says something in the very moment is ended by the control plane, and then nothing moved.
 */
function connections(): number {
	return readFileSync(`${world.up.data}/logs/agent.log`, 'utf8').split('"message":"connected"').length - 1;
}

/** The rotation of the certificate authority, up to the step that makes the node renew. */
async function renew(): Promise<void> {
	const before = connections();
	for (const step of ['prepare', 'activate', 'drain'])
		await eventually(`the rotation takes step ${step}`, async () => {
			const { code, stderr } = await world.up.run('ca', 'rotate', step, '--reason', 'a test');
			if (code !== 0) throw new Error(stderr);
			return true;
		});
	await eventually('the node has moved to a connection with its new certificate', () => {
		if (connections() <= before) throw new Error(world.up.logs());
		return true;
	});
}

const FATES: readonly [string, () => Promise<void>][] = [
	['kill -9 of the agent', () => world.restart('agent/main')],
	['kill -9 of the control plane', () => world.restart('control-plane/main')],
	['a new certificate of the node', renew],
];

async function types(person: Person, keys: string, seen: RegExp): Promise<void> {
	person.type(keys);
	await person.sees(seen, 60_000);
}

/** Counts until its flag is there; what it wrote, in order. */
async function counting() {
	const flag = `${world.up.root}-flag`;
	const script = `i=0; until [ -e ${flag} ]; do i=$((i+1)); echo $i; sleep 0.02; done`;
	const piped = world.up.start(['exec', world.node, '-n', '--', 'sh', '-c', script]);
	await piped.line((line) => line === '10');
	return async () => {
		const sofar = piped.stdout().split('\n').length;
		await piped.line((line) => Number(line) > sofar + 10);
		writeFileSync(flag, '');
		const { code, stdout } = await piped.ended;
		rmSync(flag);
		return { code, numbers: stdout.trim().split('\n').map(Number) };
	};
}

test.skipIf(lacks('vim')).each(FATES)('over %s', async (_name, strike) => {
	using stays = world.person('shell', world.node);
	await stays.sees('$');
	stays.type('vim -u NONE -n -c "set ruler ttimeout ttimeoutlen=5" /etc/services\r');
	await stays.sees('tcpmux');
	await types(stays, '/^ssh\rIfirst \u001b', /first ssh/);
	const id = await world.openId();
	const counted = await counting();
	await strike();

	// A pipe loses nothing and repeats nothing.
	const { code, numbers } = await counted();
	expect(code).toBe(0);
	expect(numbers).toEqual(Array.from({ length: numbers.length }, (_, index) => index + 1));

	// Whoever stayed sees their screen and is heard. Keys that were on their way are not typed twice: so until it is.
	await eventually('it takes keys', async () => {
		stays.type('\u001b:s/.*/second ssh/\r');
		await stays.sees(/^second ssh/m, 2000);
		return true;
	});
	// So is whoever comes.
	using comes = world.person('terminal', 'attach', id);
	await comes.sees(/^second ssh/m);
	expect(await comes.screen()).toContain('tcpmux');
	await types(comes, '\u001b:s/second/third/\r', /^third ssh/m);
	await stays.sees(/^third ssh/m);
	comes.type('\u001b:q!\r');
	await eventually('vim has left', async () => !(await comes.screen()).includes('tcpmux'));
	await comes.leaves('exit 6', 6);
	expect((await stays.exited).exitCode).toBe(6);
});
