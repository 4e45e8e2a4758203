import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { compileCache, pidsWith, signOfLife, uniqueSeconds, until } from '../process-host/host-fixture.ts';
import type { SocketPtyHost } from './client.ts';
import { stdinWindowBytes } from './limits.ts';
import type { Attachment, ChannelListener, ChannelOutcome, OpenRequest } from './pty-host.ts';
import { startPtyHost } from './start.ts';

let directory: string;
let host: SocketPtyHost;

const start = () => startPtyHost({ directory, clock: systemClock, compileCache });

beforeAll(async () => {
	directory = mkdtempSync(join(tmpdir(), 'pty-'));
	host = await start();
});

afterAll(async () => {
	await host.shutdown();
	rmSync(directory, { recursive: true, force: true });
});

function request(argv: readonly string[], more: Partial<OpenRequest> = {}): OpenRequest {
	const id = uuidv7(systemClock.now(), systemRng);
	const user = process.getuid?.() === 0 ? 'nobody' : (process.env.USER ?? 'nobody');
	return { id, argv, env: { PATH: '/usr/bin:/bin', TERM: 'dumb' }, cwd: '/', user, limits: {}, ...more };
}

/** Opens, attaches, acknowledges everything, and waits for the end. */
async function run(opened: OpenRequest): Promise<{ readonly text: string; readonly outcome: ChannelOutcome }> {
	expect(await host.open(opened)).toEqual({ kind: 'OPENED', pid: expect.any(Number) });
	let text = '';
	const outcome = await new Promise<ChannelOutcome>((resolve, reject) => {
		const listener: ChannelListener = {
			onOutput(stream, offset, bytes) {
				text += bytes.toString('latin1');
				attached.then((attachment) => attachment?.ack(stream, offset + bytes.length)).catch(reject);
			},
			onStdinAck: () => {},
			onScreen: () => {},
			onEnd: resolve,
		};
		const attached = host.attach(opened.id, { stdout: 0, stderr: 0 }, listener);
		attached.catch(reject);
	});
	await host.forget(opened.id);
	return { text, outcome };
}

function descriptors(): number {
	return readdirSync(`/proc/${host.pid}/fd`).length;
}

test('a program on a terminal, and one on pipes', async () => {
	const tty = { columns: 90, rows: 20 };
	expect(await run(request(['/bin/sh', '-c', 'stty size; exit 3'], { tty }))).toMatchObject({
		text: '20 90\r\n',
		outcome: { exitCode: 3, reason: 'TERMINAL_EXITED' },
	});
	// A real-time signal, which Node takes for an exit code of 0, too.
	for (const signal of [15, 35]) {
		const argv = ['/bin/sh', '-c', `kill -${signal} $$`];
		expect((await run(request(argv))).outcome).toMatchObject({ signal, reason: 'TERMINAL_EXITED' });
		expect((await run(request(argv, { tty }))).outcome).toMatchObject({ signal, reason: 'TERMINAL_EXITED' });
	}
});

test('its working directory is entered as its account', async () => {
	// Root's alone.
	const closed = join(directory, 'channels');
	for (const more of [{}, { tty: { columns: 200, rows: 24 } }]) {
		const { text, outcome } = await run(request(['/bin/pwd'], { cwd: '/usr', ...more }));
		expect([text.trim(), outcome.exitCode]).toEqual(['/usr', 0]);
		if (process.getuid?.() !== 0) continue;
		const refused = await run(request(['/bin/pwd'], { cwd: closed, ...more }));
		expect(refused).toMatchObject({ outcome: { exitCode: 125 }, text: expect.stringContaining('Permission denied') });
	}
	expect(await host.open(request(['/bin/pwd'], { cwd: '/no/such' }))).toMatchObject({ reason: 'CWD_MISSING' });
});

/** Attaches without acknowledging anything; what came, and the end. */
async function watched(opened: OpenRequest) {
	const seen: { bytes: number; outcome?: ChannelOutcome } = { bytes: 0 };
	const attachment = await host.attach(
		opened.id,
		{ stdout: 0, stderr: 0 },
		{
			onOutput: (_stream, _offset, bytes) => {
				seen.bytes += bytes.length;
			},
			onStdinAck: () => {},
			onScreen: () => {},
			onEnd: (outcome) => {
				seen.outcome = outcome;
			},
		},
	);
	return { seen, attachment: present(attachment, 'it was opened') };
}

test('whoever breaks the rules on one channel ends that one, and the others go on', async () => {
	const [good, ...bad] = [0, 1, 2, 3, 4].map(() => request(['/usr/bin/sleep', uniqueSeconds()]));
	const program = present(good, 'one');
	for (const each of [program, ...bad]) await host.open(each);
	const others = await Promise.all(bad.map(watched));
	const strikes = [
		(attachment: Attachment) => attachment.write(0, Buffer.alloc(stdinWindowBytes + 1), false),
		(attachment: Attachment) => attachment.write(1, Buffer.alloc(1), false),
		(attachment: Attachment) => attachment.ack('stdout', 1),
		(attachment: Attachment) => attachment.signal('SIGSTOP'),
	];
	for (const [index, strike] of strikes.entries()) {
		const { attachment } = present(others[index], 'each has one');
		strike(attachment);
		// What follows on it changes nothing more.
		strike(attachment);
	}
	await until(() => {
		if (!others.every(({ seen }) => seen.outcome?.reason === 'CHANNEL_PROTOCOL')) throw new Error('one goes on');
	});
	expect((await host.list()).find(({ id }) => id === program.id)).toMatchObject({ id: program.id });
	expect((await host.list()).find(({ id }) => id === program.id)?.outcome).toBeUndefined();
	await host.end(program.id, 'TERMINAL_KILLED', 'enough');
	await until(async () => {
		if ((await host.list()).some(({ outcome }) => outcome === undefined)) throw new Error('one still runs');
	});
	for (const { id } of [program, ...bad]) await host.forget(id);
});

test('all output arrives, also when its program has ended long before it is taken', async () => {
	const tty = { columns: 80, rows: 24 };
	const { text } = await run(request(['/bin/sh', '-c', 'seq 1 100000'], { tty }));
	expect(text.length).toBe(688_895);
	expect(text.endsWith('99999\r\n100000\r\n')).toBe(true);
});

test('what can not be opened says why, and leaves nothing', async () => {
	expect(await host.open(request(['/no/such']))).toMatchObject({ kind: 'REFUSED', reason: 'COMMAND_NOT_FOUND' });
	expect(await host.open(request(['/bin/true'], { user: 'no-such-user' }))).toMatchObject({ kind: 'REFUSED' });
	const tty = { columns: 0, rows: 24 };
	expect(await host.open(request(['/bin/true'], { tty }))).toMatchObject({ reason: 'INVALID_REQUEST' });
	expect(await host.list()).toEqual([]);
});

test('a host has no more terminals than its limit, also when many come at once, and one that ends makes room', async () => {
	const folder = mkdtempSync(join(tmpdir(), 'pty-'));
	const small = await startPtyHost({ directory: folder, clock: systemClock, compileCache, config: { channelsMax: 2 } });
	try {
		const asked = [0, 1, 2, 3].map(() => request(['/usr/bin/sleep', uniqueSeconds()]));
		const outcomes = await Promise.all(asked.map((each) => small.open(each)));
		const refused = {
			kind: 'REFUSED',
			reason: 'TOO_MANY_TERMINALS',
			message: expect.stringContaining('end one first'),
		};
		expect(outcomes.filter(({ kind }) => kind === 'REFUSED')).toEqual([refused, refused]);
		const there = await small.list();
		expect(there).toHaveLength(2);
		await small.end(present(there[0], 'two were opened').id, 'TERMINAL_KILLED', 'enough');
		await until(async () => expect(await small.open(request(['/bin/true']))).toMatchObject({ kind: 'OPENED' }));
	} finally {
		await small.shutdown();
		rmSync(folder, { recursive: true, force: true });
	}
});

test('`yes` into nobody: the program waits, or goes on and only the screen is kept; memory stays', async () => {
	const opened = request(['/usr/bin/yes'], { tty: { columns: 80, rows: 24 } });
	await host.open(opened);
	const screens: number[] = [];
	let sentBytes = 0;
	const attachment = await host.attach(
		opened.id,
		{ stdout: 0, stderr: 0 },
		{
			onOutput: (_stream, _offset, bytes) => {
				sentBytes += bytes.length;
			},
			onStdinAck: () => {},
			onScreen: (offset) => screens.push(offset),
			onEnd: () => {},
		},
	);
	await until(() => {
		if (sentBytes < 90_000) throw new Error('it has not filled its window');
	});
	expect(sentBytes).toBeLessThan(200_000);
	attachment?.detach();
	const residentMb = () =>
		Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${host.pid}/status`, 'utf8'))?.[1]) / 1024;
	const before = residentMb();
	let offset = 0;
	await until(async () => {
		offset = (await host.list())[0]?.offsets.stdout ?? 0;
		if (offset < 20_000_000) throw new Error('it does not run on');
	});
	expect(residentMb() - before).toBeLessThan(60);
	await host.attach(
		opened.id,
		{ stdout: 0, stderr: 0 },
		{
			onOutput: () => {},
			onStdinAck: () => {},
			onScreen: (at) => screens.push(at),
			onEnd: () => {},
		},
	);
	await until(() => {
		if (screens.length === 0) throw new Error('no screen came in place of what was let go');
	});
	await host.end(opened.id, 'TERMINAL_KILLED', 'enough');
	await until(async () => {
		if ((await host.list())[0]?.outcome?.reason !== 'TERMINAL_KILLED') throw new Error('it still runs');
	});
	await host.forget(opened.id);
});

const isRoot = process.getuid?.() === 0;

/** As many as a host has groups of devices: each program leaves somebody behind who ends when it is killed. */
test.skipIf(!isRoot)(
	'who is left behind keeps no group of devices from being used again',
	async () => {
		expect(host.devices).not.toBe('none');
		const confine = (group: string) => ({
			confine: { group, allow: ['c 1:3 rw', 'c 5:0 rw', 'c 5:2 rw', 'c 136:* rw'] },
		});
		const seconds = uniqueSeconds();
		const argv = ['/bin/sh', '-c', `trap "" HUP; /usr/bin/sleep ${seconds} <&- >&- 2>&- &`];
		for (let batch = 0; batch < 8; batch += 1)
			await Promise.all(Array.from({ length: 8 }, (_, index) => run(request(argv, confine(`left-${batch}-${index}`)))));
		await until(async () => {
			const opened = request(['/bin/true'], confine('another'));
			expect(await host.open(opened)).toMatchObject({ kind: 'OPENED' });
		});
		await until(() => expect(pidsWith(`sleep\u0000${seconds}`)).toEqual([]));
		for (const { id } of await host.list()) await host.end(id, 'TERMINAL_EXITED', '');
		await until(async () => {
			for (const { id, outcome } of await host.list()) if (outcome !== undefined) await host.forget(id);
			expect(await host.list()).toEqual([]);
		});
	},
	120_000,
);

test('a host that has anything left does not make room for its successor, whoever asks', async () => {
	const opened = request(['cat']);
	await host.open(opened);
	expect(await host.retire()).toBe(false);
	await host.end(opened.id, 'TERMINAL_KILLED', '');
	await until(async () => expect((await host.list()).find(({ id }) => id === opened.id)?.outcome).toBeDefined());
	// How it ended is not kept anywhere else yet.
	expect(await host.retire()).toBe(false);
	await host.forget(opened.id);
	expect((await run(request(['echo', 'on']))).text).toBe('on\n');
});

test('a terminal that is forgotten while it ends is not kept', async () => {
	for (const more of [{}, { tty: { columns: 80, rows: 24 } }]) {
		const opened = request(['/usr/bin/sleep', uniqueSeconds()], more);
		await host.open(opened);
		await host.end(opened.id, 'TERMINAL_ENDED', 'killed while the node was away');
		await host.forget(opened.id);
	}
	await until(async () => expect(await host.list()).toEqual([]));
});

test('a thousand terminals, one after the other, leave nothing', async () => {
	await run(request(['/bin/true'], { tty: { columns: 80, rows: 24 } }));
	const echo = `echo ${uniqueSeconds()}`;
	const before = descriptors();
	for (let round = 0; round < 100; round += 1) {
		const tty = { columns: 80, rows: 24 };
		await Promise.all(
			Array.from({ length: 10 }, (_, index) =>
				run(request(['/bin/sh', '-c', `${echo}; exit 0`], index % 2 === 0 ? { tty } : {})),
			),
		);
	}
	await until(() => {
		if (descriptors() > before + 2) throw new Error(`${descriptors()} descriptors, ${before} before`);
	});
	expect(pidsWith(echo)).toEqual([]);
	expect(await host.list()).toEqual([]);
	expect(readdirSync(join(directory, 'channels'))).toEqual([]);
}, 600_000);

test('the death of the host ends its terminals, and the next one says so', async () => {
	const seconds = uniqueSeconds();
	const argv = ['/bin/sh', '-c', `trap "" HUP; sleep ${seconds} & wait`];
	const opened = request(argv, { tty: { columns: 80, rows: 24 } });
	await host.open(opened);
	await until(() => {
		if (pidsWith(`sleep\u0000${seconds}`).length !== 1) throw new Error('it does not run yet');
	});
	await signOfLife(directory);
	process.kill(host.pid, 'SIGKILL');
	await host.closed;
	host = await start();
	expect(await host.list()).toMatchObject([{ id: opened.id, outcome: { reason: 'HOST_DIED' } }]);
	await until(() => {
		if (pidsWith(`sleep\u0000${seconds}`).length > 0) throw new Error('it still runs');
	});
	await host.forget(opened.id);
});
