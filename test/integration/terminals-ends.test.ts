import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TerminalState } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { eventually } from '../eventually.ts';
import { type Person, TerminalsWorld } from './terminals-world.ts';
import { processes } from './up-world.ts';

/** Limits of an installation end terminals, each with its reason on the screen of whoever sits there. */
let world: TerminalsWorld;
beforeAll(async () => {
	world = await TerminalsWorld.start();
	await world.configure('terminals', 'idle = "8s"\nlength_max = "25s"\ngrace = "1s"');
});
afterAll(async () => {
	await world?.[Symbol.asyncDispose]();
});

async function shell(): Promise<{ readonly person: Person; readonly id: string }> {
	const person = world.person('shell', world.node);
	await person.sees('$');
	return { person, id: await world.openId() };
}

async function ended(terminalId: string): Promise<string> {
	return await eventually('it has ended', async () => {
		const { terminal } = await world.client().getTerminal({ terminalId });
		return terminal?.state === TerminalState.CLOSED && terminal.reason;
	});
}

describe('a terminal is ended', () => {
	test('when nobody types', async () => {
		const { person, id } = await shell();
		using _person = person;
		await person.sees('nobody typed for 8 s');
		expect((await person.exited).exitCode).toBe(255);
		expect(await ended(id)).toBe('TERMINAL_IDLE');
	});

	test('when it has been open for as long as it may, however busy it is', async () => {
		const { person, id } = await shell();
		using _person = person;
		await eventually('it is ended', async () => {
			person.type('\r');
			return (await person.screen()).includes('as long as this installation lets one be');
		});
		expect((await person.exited).exitCode).toBe(255);
		expect(await ended(id)).toBe('TERMINAL_TOO_LONG');
	});

	test('when nobody comes back, with all that runs in it', async () => {
		const { person, id } = await shell();
		person.type('sleep 97531\r');
		const runs = () => processes().some(({ line }) => line.startsWith('sleep 97531'));
		await eventually('it runs', runs);
		// It counts as idle from now, and as abandoned long before.
		person.type('\r');
		person.kill('SIGKILL');
		expect(await ended(id)).toBe('TERMINAL_ABANDONED');
		await eventually('it is gone', () => !runs());
		using late = world.person('terminal', 'attach', id);
		await late.sees('nobody was attached');
		expect((await late.exited).exitCode).toBe(255);
	});
});

test('where a reason must be given, nothing opens without one, and the one that is given is kept', async () => {
	await world.configure('terminals', 'purpose_required = true');
	for (const argv of [
		['exec', world.node, '-n', '--', 'true'],
		['cp', '/etc/hostname', `${world.node}:/tmp/never`],
		['forward', world.node, '0:1'],
	]) {
		const { code, stderr } = await world.up.run(...argv);
		expect([code === 0, stderr]).toEqual([false, expect.stringContaining('--purpose')]);
	}
	const purpose = 'looking into ticket 4711';
	expect((await world.up.run('exec', world.node, '-n', '--purpose', purpose, '--', 'true')).code).toBe(0);
	const listed = await world.up.json<{ terminals: { purpose?: string }[] }>('terminal', 'list', '--all');
	expect(listed.terminals.map((terminal) => terminal.purpose)).toContain(purpose);
});
