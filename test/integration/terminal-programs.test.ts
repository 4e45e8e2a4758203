import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../eventually.ts';
import { lacks } from '../tools.ts';
import { type Person, TerminalsWorld } from './terminals-world.ts';

/**
 * Real full-screen programs in a real terminal through the whole product: whoever comes back, after a detach or after
 * kill -9 of their own command, sees what they left, and the keys that they type then work.
 */
let world: TerminalsWorld;
beforeAll(async () => {
	world = await TerminalsWorld.start();
});
afterAll(async () => {
	await world?.[Symbol.asyncDispose]();
});

interface Sitting {
	readonly program: string;
	readonly start: string;
	/** On the screen when it is ready for keys. */
	readonly ready: string | RegExp;
	readonly keys: string;
	/** On the screen when the keys have done their work. */
	readonly shows: string | RegExp;
	/** What changes by itself, taken out of both sides. */
	readonly moving?: RegExp;
	/** After coming back; on the screen when they were understood. */
	readonly more: string;
	readonly answer: string | RegExp;
	/** One after another, each when the screen is still. */
	readonly quit: readonly string[];
}

const ESC = '\u001b';
const SITTINGS: readonly Sitting[] = [
	{
		program: 'vim',
		start: 'vim -u NONE -N -n -c "set ruler ttimeout ttimeoutlen=5" /etc/services',
		ready: 'tcpmux',
		keys: `/^ssh${'\r'}ihand-made ${ESC}`,
		shows: /hand-made ssh/,
		more: `Iagain ${ESC}`,
		answer: /again hand-made ssh/,
		quit: [`${ESC}:q!\r`],
	},
	{
		program: 'less',
		start: 'less -N /etc/services',
		ready: 'tcpmux',
		keys: '/^ssh\r',
		shows: /\d+ ssh\s/,
		more: 'g',
		answer: /^\s+1 /m,
		quit: ['q'],
	},
	{
		program: 'top',
		start: 'top -d 3600',
		ready: /PID\s+USER/,
		keys: 'E',
		shows: /GiB Mem/,
		more: 'h',
		answer: 'Help for Interactive Commands',
		quit: ['q', 'q'],
	},
	{
		program: 'htop',
		start: 'htop -d 100',
		ready: /F1Help/,
		keys: `${ESC}OQ`,
		shows: /Categories/,
		moving: /.*(Mem|Swp|Tasks|Load|Uptime|\d\[).*/g,
		more: `${ESC}OB`,
		answer: /Display options/,
		quit: [`${ESC}[21~`, `${ESC}[21~`],
	},
	{
		program: 'python3',
		start: 'PYTHONSTARTUP= /usr/bin/python3 -q',
		ready: '>>>',
		keys: 'import os; seen = 40 + 1; print("seen", seen)\r',
		shows: /^seen 41/m,
		more: 'print("later", seen + 1)\r',
		answer: /^later 42/m,
		quit: ['exit()\r'],
	},
	{
		program: 'tmux',
		start: `tmux -L gpuaas-${process.pid} -f /dev/null new-session -s work "exec bash --norc"`,
		ready: '[work]',
		keys: '\u0002"echo low""er-pane\r',
		shows: /^lower-pane/m,
		// Its clock.
		moving: /\d\d:\d\d \d\d-\w+-\d\d/g,
		more: 'echo still-$((3 + 4))\r',
		answer: /^still-7/m,
		quit: ['\u0002&', 'y'],
	},
];

async function still(person: Person, moving: RegExp | undefined): Promise<string> {
	const look = async () => {
		const screen = await person.screen();
		return moving === undefined ? screen : screen.replaceAll(moving, '');
	};
	let before = await look();
	let same = 0;
	return await eventually('the screen is still', async () => {
		const now = await look();
		same = now === before ? same + 1 : 0;
		before = now;
		return same >= 60 && now;
	});
}

describe.each(SITTINGS)('$program', ({ program, start, ready, keys, shows, moving, more, answer, quit }) => {
	test.skipIf(lacks(program))('is as it was for whoever comes back, and goes on', async () => {
		using first = world.person('shell', world.node);
		await first.sees('$');
		first.type(`${start}\r`);
		await first.sees(ready);
		first.type(keys);
		await first.sees(shows);
		const id = await world.openId();
		const before = await still(first, moving);
		first.kill('SIGKILL');
		await first.exited;

		using second = world.person('terminal', 'attach', id);
		await second.sees(shows);
		expect(await still(second, moving)).toBe(before);
		second.type(more);
		await second.sees(answer);
		const after = await still(second, moving);
		using third = world.person('terminal', 'attach', id);
		await third.sees(answer);
		expect(await still(third, moving)).toBe(after);
		for (const each of quit) {
			third.type(each);
			await still(third, moving);
		}
		await eventually('the shell is back', async () => {
			third.type('echo ba""ck\r');
			await third.sees(/^back/m, 5000);
			return true;
		});
		await third.leaves('exit 3', 3);
	});
});
