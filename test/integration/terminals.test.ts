import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { AttachMode } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { eventually } from '../eventually.ts';
import { lacks } from '../tools.ts';
import { TerminalsWorld } from './terminals-world.ts';
import { processes } from './up-world.ts';

let world: TerminalsWorld;

beforeAll(async () => {
	world = await TerminalsWorld.start();
});

afterAll(async () => {
	await world?.[Symbol.asyncDispose]();
});

async function shell() {
	const person = world.person('shell', world.node);
	await person.sees('$');
	return person;
}

async function openId(command = ''): Promise<string> {
	const { terminals } = await world.client().listTerminals({ node: world.node });
	const found = terminals.find((terminal) => terminal.command === command);
	if (found === undefined) throw new Error('no such terminal is open');
	return found.id;
}

describe('a shell', () => {
	test('is a login shell of the mapped account, with its window, and exits with its code', async () => {
		using person = await shell();
		person.type(
			'id -un; stty size; shopt -q login_shell && echo login; cat /proc/self/status | grep -E "^(NoNewPrivs|CapEff)"\r',
		);
		await person.sees(/nobody|\w+/);
		await person.sees('24 80');
		await person.sees(/^login/m);
		await person.sees(/NoNewPrivs:\s*1/);
		person.resize(100, 30);
		// The size travels apart from the keys.
		await eventually('the new size', async () => {
			person.type('stty size\r');
			await person.sees('30 100', 5000);
			return true;
		});
		person.type('exit 5\r');
		expect(await person.exited).toEqual({ exitCode: 5 });
	});

	test('passes bytes that are no text, both ways', async () => {
		using person = await shell();
		person.type("printf 'a\\xff\\xfeb\\n'; stty raw -echo; head -c 3 | od -An -tx1; stty sane; echo done\r");
		await eventually('raw bytes', () => person.raw.includes('a\xff\xfeb'));
		person.type(Uint8Array.of(0xff, 0x00, 0xfe));
		await person.sees('ff 00 fe');
		person.type('exit\r');
		await person.exited;
	});

	test('goes on after ~d, and its full-screen program is as it was', async (context) => {
		if (lacks('vim')) context.skip();
		using first = await shell();
		first.type('vim -u NONE /etc/passwd\r');
		await first.sees('root:x:0:0');
		first.type('5G');
		const before = await first.screen();
		const id = await openId();
		first.type('\r~d');
		expect(await first.exited).toEqual({ exitCode: 0 });

		using second = world.person('terminal', 'attach', id);
		await second.sees('root:x:0:0');
		expect((await second.screen()).split('\n')[0]).toBe(before.split('\n')[0]);
		second.type('\u001b:q!\r');
		await eventually('vim has left', async () => !(await second.screen()).includes('root:x:0:0'));
		second.type('echo back-$((1 + 1))\r');
		await second.sees('back-2');
		second.type('exit\r');
		expect(await second.exited).toEqual({ exitCode: 0 });
	});

	test('is alone on the screen of whoever comes to it from a screen that is full of something else', async () => {
		using first = await shell();
		first.type('echo shown-$((1 + 1))\r');
		await first.sees(/^shown-2/m);
		const id = await openId();
		using local = world.local();
		await local.sees('here>');
		local.type(`clear; yes left-over | head -5; $GPUAAS terminal attach ${id}\r`);
		await local.sees(/^shown-2/m);
		expect(await local.screen()).not.toContain('left-over');
		await first.leaves('exit', 0);
		await local.sees('here>');
	});

	test('is ended by ~. with all that runs in it', async () => {
		using person = await shell();
		person.type('sleep 98761 & sleep 98762\r');
		await eventually('both run', () => processes().filter(({ line }) => /^sleep 9876[12]/.test(line)).length === 2);
		person.type('\r~.');
		expect((await person.exited).exitCode).toBe(255);
		await eventually('both are gone', () => processes().every(({ line }) => !/^sleep 9876[12]/.test(line)));
	});
});

describe('exec', () => {
	test('keeps the three streams apart and exits with the code', async () => {
		const ran = await world.up.run('exec', world.node, '-n', '--', 'sh', '-c', 'echo out; echo err >&2; exit 7');
		expect(ran).toMatchObject({ code: 7, stdout: 'out\n', stderr: 'err\n' });
	});

	test('is, for a program, events of both streams and of its end', async () => {
		const ran = await world.up.run(
			'exec',
			world.node,
			'-n',
			'--json',
			'--',
			'sh',
			'-c',
			'echo out; echo err >&2; exit 7',
		);
		expect(ran).toMatchObject({ code: 7, stderr: '' });
		const events = ran.stdout
			.trimEnd()
			.split('\n')
			.map((line) => JSON.parse(line));
		expect(events[0]).toEqual({ event: 'created', terminalId: expect.any(String), node: world.node });
		const terminalId = events[0].terminalId;
		const output = (stream: string, text: string) => ({ event: 'output', terminalId, stream, base64: btoa(text) });
		// Which of the two streams comes first is the node's.
		expect(events.slice(1, -1)).toEqual(expect.arrayContaining([output('stdout', 'out\n'), output('stderr', 'err\n')]));
		expect(events.at(-1)).toMatchObject({ event: 'ended', terminalId, exitCode: 7, reason: 'TERMINAL_EXITED' });
	});

	test('is a pipe: its input ends when ours does', async () => {
		const started = world.up.start(['exec', world.node, '--', 'wc', '-c']);
		// `start` gives no input at all: /dev/null.
		expect(await started.ended).toMatchObject({ code: 0, stdout: '0\n' });
	});

	test('says as a shell does what could not be run', async () => {
		const ran = await world.up.run('exec', world.node, '-n', '--', 'no-such-program');
		expect(ran.code).toBe(127);
		expect(ran.stderr).toContain('no-such-program');
	});

	test('gets the signal that we got', async () => {
		const cleans = 'trap "echo cleaned; exit 9" TERM; trap "" INT; echo ready; sleep 76541 & wait; exit 1';
		const started = world.up.start(['exec', world.node, '-n', '--', 'sh', '-c', cleans]);
		await started.line((line) => line === 'ready');
		started.child.kill('SIGTERM');
		expect(await started.ended).toMatchObject({ code: 9, stdout: 'ready\ncleaned\n' });
	});

	test('names what is wrong before anything runs', async () => {
		const unknown = await world.up.run('exec', 'nowhere', '-n', '--', 'true');
		expect(unknown).toMatchObject({ code: 255 });
		expect(unknown.stderr).toContain('no such node');
		expect(unknown.stderr).toContain('list the nodes that you can see: gpuaas node list');
		await expect(
			world.client().openTerminal({
				node: world.node,
				spec: { kind: { case: 'shell', value: { size: { columns: 0, rows: 24 } } } },
			}),
		).rejects.toThrow(/columns/);
	});
});

test('what has ended is told so, by how it ended, and is not taken for what is there', async () => {
	await world.up.run('exec', world.node, '-n', '--', 'sh', '-c', 'exit 7 # ends');
	// That it is closed is written down after whoever was attached has read its end.
	const line = await eventually('it is closed', async () => {
		const listed = (await world.up.run('terminal', 'list', '--all')).stdout.split('\n');
		return listed.find((each) => each.includes('exit 7 # ends') && each.includes('closed, exit 7'));
	});
	const id = line.split(' ')[0] ?? '';
	const attached = await world.up.run('terminal', 'attach', id);
	expect(attached).toMatchObject({ code: 7, stdout: '', stderr: `gpuaas: terminal ${id} has ended already: exit 7\n` });
	const killed = await world.up.run('terminal', 'kill', id);
	expect(killed).toMatchObject({ code: 0, stdout: `terminal ${id} on ${world.node} has ended: exit 7\n` });
});

describe('several people', () => {
	test('one looks on with a share, and does not type', async () => {
		using owner = await shell();
		const id = await openId();
		const client = world.client();
		using observer = world.person('terminal', 'attach', id, '--observe');
		await observer.sees('$');
		owner.type('echo hel""lo\r');
		await observer.sees('hello');
		observer.type('echo no\r');
		const seen: string[] = [];
		for await (const { message } of client.observeTerminal({ terminalId: id })) {
			seen.push(message.case ?? '');
			if (message.case === 'screen') break;
		}
		expect(seen[0]).toBe('attached');
		expect((await client.getTerminal({ terminalId: id })).terminal).toMatchObject({ tty: true });
		await expect(
			client.shareTerminal({ terminalId: id, principalId: 'nobody', mode: AttachMode.OBSERVE }),
		).rejects.toThrow(/no principal/);
		expect(await owner.screen()).not.toContain('echo no');
		await client.killTerminal({ terminalId: id, reason: 'the test is over' });
		await owner.sees('the test is over');
		expect((await owner.exited).exitCode).toBe(255);
		expect((await observer.exited).exitCode).toBe(255);
	});

	test('whoever attaches twice over the wire gets the same bytes', async () => {
		using owner = await shell();
		const id = await openId();
		async function* requests() {
			yield { terminalId: id, message: { case: 'attach' as const, value: { mode: AttachMode.OBSERVE } } };
			yield { message: { case: 'input' as const, value: { data: Uint8Array.of(65) } } };
		}
		const cases: string[] = [];
		const attached = (async () => {
			for await (const { message } of world.client().attachTerminal(requests())) cases.push(message.case ?? '');
		})();
		await expect(attached).rejects.toThrow(/can’t type/);
		expect(cases[0]).toBe('attached');
		owner.type('exit\r');
		await owner.exited;
	});
});

describe('a shell survives', () => {
	test('the death of the agent', async () => {
		using person = await shell();
		person.type('mark=agent-died\r');
		const [agent = 0] = world.up.pids('agent/main.ts run');
		process.kill(agent, 'SIGKILL');
		await eventually('another agent', () => {
			const [next] = world.up.pids('agent/main.ts run');
			return next !== undefined && next !== agent;
		});
		person.type('echo still $mark\r');
		await person.sees('still agent-died');
		person.type('exit\r');
		await person.exited;
	});

	test('the death of the control plane', async () => {
		using person = await shell();
		person.type('mark=cp-died\r');
		await person.sees('mark=');
		const [controlPlane = 0] = world.up.pids('control-plane/main.ts');
		process.kill(controlPlane, 'SIGKILL');
		await eventually('another control plane', () => {
			const [next] = world.up.pids('control-plane/main.ts');
			return next !== undefined && next !== controlPlane;
		});
		await eventually('the shell answers', async () => {
			person.type('echo still $mark\r');
			await person.sees('still cp-died', 5000);
			return true;
		});
		person.type('exit\r');
		await person.exited;
	});
});
