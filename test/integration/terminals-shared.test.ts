import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { AttachMode, TerminalState } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { eventually } from '../eventually.ts';
import { type Colleague, TerminalsWorld } from './terminals-world.ts';

/** One terminal and several people of a project, each with a key and a terminal of their own. */
let world: TerminalsWorld;
let ada: Colleague;
let bo: Colleague;
beforeAll(async () => {
	world = await TerminalsWorld.start();
	[ada, bo] = (await world.project('ada', 'bo')) as [Colleague, Colleague];
});
afterAll(async () => {
	await world?.[Symbol.asyncDispose]();
});

async function shellOfAda() {
	const person = ada.person('shell', world.node);
	await person.sees('$');
	return { person, id: await world.openId() };
}

/** What one of them says over the wire as an observer, and how the attachment ended. */
async function observing(who: Colleague, terminalId: string, message: object): Promise<string> {
	async function* requests() {
		yield { terminalId, message: { case: 'attach' as const, value: { mode: AttachMode.OBSERVE } } };
		yield { message } as never;
	}
	try {
		for await (const _ of world.client(who.key).attachTerminal(requests()));
		return 'ended';
	} catch (error) {
		return String(error);
	}
}

async function terminalOf(terminalId: string) {
	return (await world.client().getTerminal({ terminalId })).terminal;
}

interface Audited {
	readonly target: string;
	readonly actor: string;
	readonly result: string;
	readonly decisionReason: string;
	/** JSON. */
	readonly detail: string;
}

/** Newest first. */
async function audited(action: string, id: string): Promise<readonly Audited[]> {
	const { records } = await world.up.json<{ records: readonly Audited[] }>('audit', 'list', '--action', action);
	return records.filter(({ target }) => target === `terminals/${id}`);
}

/** From the agent's own journal: its side of what happened. */
async function saidByAgent(action: string, id: string): Promise<object> {
	return await eventually(`${action} of the agent`, async () => {
		const { records } = await world.up.json<{ records: readonly Audited[] }>(
			'audit',
			'list',
			'--action',
			`agent.${action}`,
		);
		const said = records.map(
			({ detail }) => JSON.parse((JSON.parse(detail) as { said: string }).said) as { channel: string },
		);
		return said.find(({ channel }) => channel === id);
	});
}

describe('a terminal of somebody else', () => {
	test('is closed until its owner lets one in; for looking it takes no key, size or signal', async () => {
		const { person: owner, id } = await shellOfAda();
		using _owner = owner;
		const refused = bo.person('terminal', 'attach', id, '--observe');
		await refused.sees('has not shared it');
		expect((await refused.exited).exitCode).toBe(255);
		expect(await audited('terminals.attach', id)).toMatchObject([
			{ actor: 'bo', result: 'denied', decisionReason: 'TERMINAL_NOT_SHARED' },
			{ actor: 'ada', result: 'ok' },
		]);

		expect((await ada.run('terminal', 'share', id, bo.id)).code).toBe(0);
		using observer = bo.person('terminal', 'attach', id, '--observe');
		await observer.sees('$');
		owner.type('echo shown-$((1 + 1))\r');
		await observer.sees(/^shown-2/m);
		observer.type('echo never-typed\r');
		for (const message of [
			{ case: 'input', value: { data: Uint8Array.of(65) } },
			{ case: 'resize', value: { columns: 20, rows: 5 } },
			{ case: 'signal', value: { name: 'KILL' } },
		])
			expect(await observing(bo, id, message)).toMatch(/can’t type/);
		using typing = bo.person('terminal', 'attach', id);
		await typing.sees('for looking, not for typing');
		owner.type('stty size; echo done-$((2 + 2))\r');
		await owner.sees(/^24 80\s+done-4/m);
		expect(await owner.screen()).not.toContain('never-typed');
		observer.type('q');
		expect((await observer.exited).exitCode).toBe(0);
		await owner.leaves('exit', 0);
	});

	test('is typed into by both when it is shared so, and by one again when that is withdrawn', async () => {
		const { person: owner, id } = await shellOfAda();
		using _owner = owner;
		expect((await ada.run('terminal', 'share', id, bo.id, '--control')).code).toBe(0);
		using guest = bo.person('terminal', 'attach', id);
		await guest.sees('$');
		guest.type('from=bo\r');
		owner.type('echo hello-$from\r');
		// Whoever was first: the keys of both are one stream.
		await eventually('both see what both typed', async () => {
			owner.type('echo hello-$from\r');
			await owner.sees(/^hello-bo/m, 1000);
			return true;
		});
		await guest.sees(/^hello-bo/m);
		expect(await audited('terminals.attach', id)).toMatchObject([{ actor: 'bo' }, { actor: 'ada' }]);
		expect(await audited('terminals.share', id)).toMatchObject([
			{ actor: 'ada', detail: expect.stringContaining(`"mode":"control","principal":"${bo.id}"`) },
		]);

		expect((await ada.run('terminal', 'share', id, bo.id, '--withdraw')).code).toBe(0);
		await guest.sees('has not shared it');
		expect((await guest.exited).exitCode).toBe(255);
		expect((await audited('terminals.share', id))[0]).toMatchObject({
			actor: 'ada',
			detail: expect.stringContaining(`"mode":"none","principal":"${bo.id}"`),
		});
		owner.type('echo alone-$((3 + 3))\r');
		await owner.sees(/^alone-6/m);
		// A guest ends nothing that isn't theirs to end.
		await owner.leaves('exit', 0);
	});

	test('is ended by whoever may, who says why: those who sit there read it, and so does an auditor', async () => {
		const { person: owner, id } = await shellOfAda();
		using _owner = owner;
		expect(await saidByAgent('terminals.open', id)).toMatchObject({ by: ada.id, name: 'ada', kind: 'shell' });
		expect((await bo.run('terminal', 'kill', id, '--reason', 'her job is done')).code).toBe(0);
		await owner.sees(/bo ended it: her job is done/);
		expect((await owner.exited).exitCode).toBe(255);
		expect(await audited('terminals.kill', id)).toMatchObject([
			{ actor: 'bo', result: 'ok', detail: expect.stringContaining('"reason":"her job is done"') },
		]);
		expect(await saidByAgent('terminals.end', id)).toEqual({ channel: id });
	});
});

describe('what ends a terminal says why to whoever sits there', () => {
	test('a role that is taken away, an account that is suspended', async () => {
		const { person, id } = await shellOfAda();
		using _person = person;
		expect((await world.up.run('service-account', 'suspend', 'acme/train/ada', '--reason', 'left')).code).toBe(0);
		// Whichever is first: the end of the terminal, or that of the stream of whoever may not be there.
		await person.sees(/the account (that opened it )?was disabled/);
		expect(await person.screen()).not.toContain('trying again');
		expect((await person.exited).exitCode).toBe(255);
		await eventually('it is ended', async () => (await terminalOf(id))?.reason === 'PRINCIPAL_DISABLED');
		expect((await world.up.run('service-account', 'resume', 'acme/train/ada')).code).toBe(0);

		const again = await shellOfAda();
		using _again = again.person;
		await world.unbind(ada);
		// Likewise: the end of the terminal, or that of the stream.
		await again.person.sees(/no longer holds (terminals.open|a role that lets it be at this terminal)/);
		expect(await again.person.screen()).not.toContain('trying again');
		expect((await again.person.exited).exitCode).toBe(255);
	});

	test('a project that is suspended', async () => {
		using person = bo.person('shell', world.node);
		await person.sees('$');
		const id = await world.openId();
		expect(await world.up.run('project', 'suspend', 'acme/train', '--reason', 'unpaid')).toMatchObject({ code: 0 });
		await person.sees(/suspended/);
		expect((await person.exited).exitCode).toBe(255);
		await eventually('it is ended', async () => (await terminalOf(id))?.state === TerminalState.CLOSED);
		expect(await terminalOf(id)).toMatchObject({
			reason: 'PRINCIPAL_DISABLED',
			message: 'the project or organization of its opener was suspended',
		});
		expect(await world.up.run('project', 'resume', 'acme/train')).toMatchObject({ code: 0 });
	});

	test('the end of the assignment that it was opened under', async () => {
		using person = bo.person('shell', world.node);
		await person.sees('$');
		expect((await world.up.run('node', 'unassign', world.node)).code).toBe(0);
		await person.sees('the assignment that it was opened under ended');
		expect((await person.exited).exitCode).toBe(255);
	});
});
