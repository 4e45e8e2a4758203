import { existsSync, readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../eventually.ts';
import { type Person, TerminalsWorld } from './terminals-world.ts';

/**
 * The terminal that a person sits in, on every way out of `gpuaas shell`: its settings are those of before, the
 * full-screen program that runs on the node has left the screen, and the shell of the person goes on in it.
 */
let world: TerminalsWorld;
beforeAll(async () => {
	world = await TerminalsWorld.start();
});
afterAll(async () => {
	await world?.[Symbol.asyncDispose]();
});

/** Makes the command throw in the middle of whatever it does. */
const CRASH = "--import \"data:text/javascript,process.on('SIGUSR2',()=>{throw new Error('a bug')})\"";

let sitting: Person | undefined;
afterEach(() => {
	sitting?.[Symbol.dispose]();
	sitting = undefined;
});

/** A local shell that says its settings, runs `gpuaas shell`, and on the node a full-screen program. */
async function inside(program = 'vim -u NONE /etc/services'): Promise<Person> {
	const person = world.local({ NODE_OPTIONS_OF_GPUAAS: CRASH });
	sitting = person;
	await person.sees('here>');
	person.type('before=$(stty -g)\r');
	person.type(`NODE_OPTIONS="$NODE_OPTIONS_OF_GPUAAS" $GPUAAS shell ${world.node}\r`);
	await person.sees(/\$$/m);
	if (program === '') return person;
	person.type(`${program}\r`);
	await person.sees('tcpmux');
	return person;
}

async function isAsBefore(person: Person, code: number): Promise<void> {
	await person.sees(/here>\s*$/m);
	person.type('\u0015echo code=$? $([ "$(stty -g)" = "$before" ] && echo as-before || echo changed)\r');
	await person.sees(new RegExp(`^code=${code} as-before`, 'm'));
	expect(await person.screen()).not.toContain('tcpmux');
}

/** Of the command, not of the local shell. */
async function commandOf(person: Person): Promise<number> {
	return await eventually('the command runs', () => person.children().find(({ line }) => line.includes('shell'))?.pid);
}

describe('what a program writes', () => {
	test('comes to the screen byte by byte: a program that draws means no carriage return by its line feeds', async () => {
		const script = "stty raw -echo; printf 'ab\\ncd'; stty sane; exit 3";
		using person = world.person('exec', world.node, '-t', '--', 'sh', '-c', script);
		expect(await person.exited).toEqual({ exitCode: 3 });
		expect(person.raw).toContain('ab\ncd');
		// And of one that leaves its lines to its terminal, once.
		using plain = world.person('exec', world.node, '-t', '--', 'printf', 'ab\\ncd');
		await plain.exited;
		expect(plain.raw).toContain('ab\r\ncd');
	});

	test('a replay shows in the same way', async () => {
		using person = world.person('exec', world.node, '-t', '--', 'sh', '-c', "stty raw; printf 'ef\\ngh'");
		await person.exited;
		const id = await eventually('its recording', async () => {
			const { recordings } = await world.up.json<{ recordings: { id: string; state: string }[] }>(
				'terminal',
				'recordings',
			);
			return recordings[0]?.state === 'RECORDING_STATE_SEALED' && recordings[0].id;
		});
		using replay = world.person('terminal', 'replay', id);
		await replay.exited;
		expect(replay.raw).toContain('ef\ngh');
	});

	test('does not keep ~. from being read while the terminal takes nothing', async () => {
		using person = world.person('exec', world.node, '-t', '--', 'yes');
		await person.sees('y');
		const id = await world.openId();
		person.stall();
		let [wrote, looks] = [0, 0];
		await eventually('nothing more goes out', () => {
			const now = Number(/^wchar: (\d+)$/m.exec(readFileSync(`/proc/${person.pid}/io`, 'latin1'))?.[1]);
			looks = now === wrote ? looks + 1 : 0;
			wrote = now;
			return looks === 30;
		});
		person.type('\r~.');
		await eventually('it is gone', () => !existsSync(`/proc/${person.pid}`));
		person.readOn();
		expect(await person.exited).toEqual({ exitCode: 255 });
		const { terminals } = await world.up.json<{ terminals: { id: string; reason: string }[] }>(
			'terminal',
			'list',
			'--all',
		);
		expect(terminals.find((each) => each.id === id)?.reason).toBe('TERMINAL_KILLED');
	});
});

describe('the local terminal is as it was', () => {
	test('after the shell has ended by itself', async () => {
		const person = await inside('');
		person.type('exit 7\r');
		await isAsBefore(person, 7);
	});

	test.each([
		['~d', '\r~d', 0],
		['~.', '\r~.', 255],
	])('after %s', async (_name, keys, code) => {
		const person = await inside();
		person.type(keys);
		await isAsBefore(person, code);
	});

	test.each([
		['SIGTERM', 130],
		['SIGINT', 130],
		['SIGHUP', 130],
		['SIGQUIT', 130],
		['SIGUSR2', 1],
	] as const)('after %s', async (signal, code) => {
		const person = await inside();
		process.kill(await commandOf(person), signal);
		await isAsBefore(person, code);
	});

	test('after ~. with a control plane that does not answer', async () => {
		const person = await inside();
		const [controlPlane = 0] = world.up.pids('control-plane/main');
		process.kill(controlPlane, 'SIGSTOP');
		try {
			person.type('\r~.');
			await isAsBefore(person, 255);
		} finally {
			process.kill(controlPlane, 'SIGCONT');
		}
	});

	test('after ~. with a control plane that is gone', async () => {
		const person = await inside();
		// Not stopped: that ends the shells too.
		await world.up.crash();
		await person.sees('trying again');
		person.type('\r~.');
		await isAsBefore(person, 255);
		await world.up.up();
	});

	test('after the node is stopped with all its terminals, and it says so', async () => {
		const person = await inside();
		await world.up.stop();
		await person.sees('the agent of the node was stopped');
		await isAsBefore(person, 255);
	});
});
