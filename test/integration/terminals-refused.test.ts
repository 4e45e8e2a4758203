import { readFileSync, rmSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../eventually.ts';
import { lacks } from '../tools.ts';
import { OTHER_UID, policyOf, startCrafted, TESTER, TESTER_LINES } from './crafted-host.ts';
import type { TerminalsWorld } from './terminals-world.ts';
import { processes } from './up-world.ts';

/** What can't be opened, or can't go on, says why in its own words and leaves nothing. */
const PTS_MAX = 4;

describe.skipIf(lacks('root', 'unshare', 'mount'))('on a host with little room', () => {
	let world: TerminalsWorld;
	beforeAll(async () => {
		const { passwd, group } = TESTER_LINES;
		world = await startCrafted({
			passwd: [...passwd, `gpuaas-noshell:x:${OTHER_UID}:${TESTER.gid}::/tmp:/no/such/shell`],
			group,
			ptsMax: PTS_MAX,
			policy: policyOf([TESTER.name, 'gpuaas-noshell'], '[limits]\nprocesses = 48\n'),
		});
	});
	afterAll(async () => {
		await world?.[Symbol.asyncDispose]();
	});

	/** What a person reads, and the exit code of their command. */
	async function refused(
		...argv: readonly string[]
	): Promise<{ readonly screen: string; readonly code: number | undefined }> {
		using person = world.person(...argv);
		const { exitCode } = await person.exited;
		return { screen: await person.screen(), code: exitCode };
	}

	test('a node that is drained', async () => {
		using open = world.person('shell', world.node);
		await open.sees('$');
		expect(await world.up.run('node', 'drain', world.node)).toMatchObject({ code: 0 });
		const { screen, code } = await refused('shell', world.node);
		expect({ screen, code }).toMatchObject({ screen: expect.stringContaining('is being drained'), code: 255 });
		// The drain waits for what is open, and then is over.
		await open.leaves('exit', 0);
		await eventually('it takes work again', async () => {
			await world.up.run('node', 'uncordon', world.node);
			return (await world.up.run('exec', world.node, '-n', '--', 'echo', 'again')).stdout === 'again\n';
		});
	});

	test('an account whose shell is missing, and a shell that is', async () => {
		const account = await refused('shell', world.node, '-u', 'gpuaas-noshell');
		expect(account).toMatchObject({ screen: expect.stringContaining('/no/such/shell'), code: 255 });
		const named = await refused('shell', world.node, '--shell', '/bin/nosuchshell');
		expect(named).toMatchObject({ screen: expect.stringContaining('/bin/nosuchshell'), code: 255 });
	});

	test('the last pseudo-terminal', async () => {
		const people = [];
		for (let each = 0; each < PTS_MAX; each += 1) {
			const person = world.person('shell', world.node);
			await person.sees('$');
			people.push(person);
		}
		const { screen, code } = await refused('shell', world.node);
		expect({ screen, code }).toMatchObject({ screen: expect.stringContaining('no pseudo-terminal left'), code: 255 });
		// What needs none goes on.
		expect((await world.up.run('exec', world.node, '-n', '--', 'echo', 'fine')).stdout).toBe('fine\n');
		await people.pop()?.leaves('exit', 0);
		// It is given back a moment after the person has read the end.
		await eventually('there is one again', async () => {
			using again = world.person('shell', world.node);
			const isOpen = await Promise.race([again.sees('$').then(() => true), again.exited.then(() => false)]);
			if (isOpen) await again.leaves('exit', 0);
			return isOpen;
		});
		for (const person of people) await person.leaves('exit', 0);
	});

	test('a fork bomb: it meets its limit, and ends with its terminal', async () => {
		using person = world.person('shell', world.node);
		await person.sees('$');
		const id = await world.openId();
		person.type('bomb() { bomb | bomb & }; bomb\r');
		const bombs = () =>
			processes().filter(({ pid }) => {
				try {
					return new RegExp(`^Uid:\\t${TESTER.uid}\\b`, 'm').test(readFileSync(`/proc/${pid}/status`, 'utf8'));
				} catch {
					return false;
				}
			});
		await person.sees(/Resource temporarily unavailable|retry/);
		expect(bombs().length).toBeLessThan(60);
		// Everything else goes on meanwhile.
		expect((await world.up.run('terminal', 'list')).stdout).toContain(id);
		expect((await world.up.run('terminal', 'kill', id, '--reason', 'a bomb')).code).toBe(0);
		await person.sees('a bomb');
		expect((await person.exited).exitCode).toBe(255);
		await eventually('all of it is gone', () => bombs().length === 0);
		using after = world.person('shell', world.node);
		await after.sees('$');
		await after.leaves('exit', 0);
	});

	test('a window without a size, one that is absurd, and one that becomes so', async () => {
		for (const [columns, rows, shown] of [
			[0, 0, '24 80'],
			[5000, 4000, '1000 1000'],
		] as const) {
			using local = world.local();
			await local.sees('here>');
			local.type(`stty cols ${columns} rows ${rows}; $GPUAAS exec ${world.node} -t -- stty size\r`);
			await eventually('its size', () => local.raw.includes(shown));
		}
		const client = world.client();
		using person = world.person('shell', world.node);
		await person.sees('$');
		const id = await world.openId();
		for (const size of [
			{ columns: 0, rows: 24 },
			{ columns: 80, rows: 70_000 },
		]) {
			async function* requests() {
				yield { terminalId: id, message: { case: 'attach' as const, value: {} } };
				yield { message: { case: 'resize' as const, value: size } };
			}
			const attaching = (async () => {
				for await (const _ of client.attachTerminal(requests()));
			})();
			await expect(attaching).rejects.toThrow(/columns|rows/);
		}
		person.type('stty size\r');
		await person.sees(/^24 80/m);
		await person.leaves('exit', 0);
	});
});

describe.skipIf(lacks('root', 'unshare', 'mount'))('a disk that runs full under a recording', () => {
	let world: TerminalsWorld;
	beforeAll(async () => {
		world = await startCrafted({ ...TESTER_LINES, recordingsMb: 16, policy: policyOf([TESTER.name]) });
		await world.configure('recordings', 'free_floor = "1MiB"');
	});
	afterAll(async () => {
		await world?.[Symbol.asyncDispose]();
	});

	const recordings = async () =>
		(
			await world.up.json<{ recordings: { id: string; terminalId: string; state: string; truncated: string }[] }>(
				'terminal',
				'recordings',
			)
		).recordings;
	const FLOOD = 'head -c 24000000 /dev/zero | tr "\\0" x; echo; echo over-$((4 + 5))\r';

	test('by best effort the terminal goes on and says so; what was recorded is sealed and verifies', async () => {
		using person = world.person('shell', world.node);
		await person.sees('$');
		const id = await world.openId();
		person.type(FLOOD);
		await person.sees(/^over-9/m, 60_000);
		await eventually('it says so', () => person.raw.includes('NOT recorded'));
		await person.leaves('exit 4', 4);
		const sealed = await eventually('it is sealed', async () =>
			(await recordings()).find(({ terminalId, state }) => terminalId === id && state.endsWith('SEALED')),
		);
		expect(sealed.truncated).toMatch(/could not go on/);
		expect((await world.up.run('terminal', 'verify', sealed.id)).code).toBe(0);
	});

	test('fail-closed it ends, with the reason', async () => {
		await world.configure('recordings', 'free_floor = "1MiB"\nmode = "fail_closed"');
		// That disk is in the mount namespace of the control plane.
		const [pid] = world.up.pids('control-plane/main');
		rmSync(`/proc/${pid}/root${world.up.data}/control-plane/recordings/sha256`, { recursive: true });
		using person = world.person('shell', world.node);
		await person.sees('$');
		const id = await world.openId();
		person.type(FLOOD);
		expect((await person.exited).exitCode).toBe(255);
		expect(person.raw.includes('this one ended')).toBe(true);
		// That is written down after the person has read it.
		const reason = await eventually('its end is known', async () => {
			const { terminal } = await world.client().getTerminal({ terminalId: id });
			return terminal?.reason;
		});
		expect(reason).toBe('RECORDING_UNAVAILABLE');
	});
});
