import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startPtyHost } from '../../agent/pty-host/start.ts';
import { systemClock } from '../../kit/clock.ts';
import { readDirectoryLock } from '../../kit/directory-lock.ts';
import { eventually } from '../eventually.ts';
import { copyProduct } from './product-copy.ts';
import { type Person, TerminalsWorld } from './terminals-world.ts';

/**
 * Other releases of the product on the data folder of a first one, with shells and tasks open. They are copies of this
 * tree; the old one's hosts speak version 1 alone and know no `retire`, as those before succession do. That the wire itself
 * stays is what the tests of both protocols hold, byte for byte: copies of one tree can't tell.
 */
const OLD = '0.0.9';
const NEW = '0.2.0';

let world: TerminalsWorld;
const products = { old: '', new: '' };

beforeAll(async () => {
	world = await TerminalsWorld.start(({ up }) => {
		products.old = copyProduct(join(up.root, 'products', OLD), OLD, [1]);
		products.new = copyProduct(join(up.root, 'products', NEW), NEW, [2, 1]);
		up.product = products.old;
		return [];
	});
});
afterAll(async () => {
	await world?.[Symbol.asyncDispose]();
});

const HOSTS = ['agent/pty-host/main', 'agent/process-host/main'] as const;

/** The hosts that run, and of which copy of the product they are. */
function hosts(): readonly { readonly pid: number | undefined; readonly product: string }[] {
	return HOSTS.map((name) => {
		const [pid, ...others] = world.up.pids(name);
		if (others.length > 0) throw new Error(`there are several of ${name}`);
		const line = pid === undefined ? '' : readFileSync(`/proc/${pid}/cmdline`, 'utf8');
		return { pid, product: line.includes(`/products/${OLD}/`) ? OLD : line.includes(`/products/${NEW}/`) ? NEW : '' };
	});
}

async function become(product: string): Promise<void> {
	await world.up.crash();
	world.up.product = product;
	await world.up.up();
}

/** What the shell says between the marks, where it isn't what was typed. */
async function said(person: Person, what: string): Promise<string> {
	person.type(`echo "<""${what}"">"\r`);
	const answer = /<([^"<>$]+)>/;
	await person.sees(answer);
	const found = answer.exec(await person.screen())?.[1] ?? '';
	person.type('clear\r');
	await eventually('a clear screen', async () => !answer.test(await person.screen()));
	return found;
}

test('shells and tasks go on over an upgrade of the agent, and hosts follow it once they are empty', async () => {
	const opener = world.person('shell', world.node);
	await opener.sees('$');
	opener.type('kept=something\r');
	const shell = await said(opener, '$$-$kept');
	const drawn = "printf '\\033[?1049h\\033[2J\\033[7;9Hfull screen'; cat\r";
	opener.type(drawn);
	await opener.sees(/^\s{8}full screen/m);
	const id = await world.openId();
	const flag = `${world.up.root}-flag`;
	const script = `until [ -e ${flag} ]; do sleep 0.1; done; echo over; exit 5`;
	const task = (await world.up.run('run', '-d', '--', 'sh', '-c', script)).stdout.trim();
	await eventually('the task runs', async () => {
		const { task: row } = await world.up.json<{ task: { state: string } }>('task', 'show', task);
		return row.state === 'TASK_STATE_RUNNING';
	});
	const before = hosts();
	expect(before.map(({ product }) => product)).toEqual([OLD, OLD]);
	opener[Symbol.dispose]();

	await become(products.new);
	expect(world.up.pids(`/products/${NEW}/agent/main`)).toHaveLength(1);
	expect(hosts()).toEqual(before);
	// The same screen, and behind it the same shell.
	const again = world.person('terminal', 'attach', id);
	await again.sees(/^\s{8}full screen/m);
	again.type('\u0003');
	// What is typed before the shell has its terminal back is lost with the interrupt.
	await again.sees(/\$ ?$/m);
	expect(await said(again, '$$-$kept')).toBe(shell);
	// What is new is taken by the host that is there.
	const other = world.person('shell', world.node);
	await other.sees('$');
	expect(await said(other, '$PPID')).toBe(String(before[0]?.pid));
	expect(hosts()).toEqual(before);

	writeFileSync(flag, '');
	expect(await world.up.run('task', 'logs', '-f', task)).toMatchObject({ stdout: 'over\n' });
	const ended = await world.up.json<{ task: unknown }>('task', 'show', task);
	expect(ended.task).toMatchObject({ state: 'TASK_STATE_FAILED', exitCode: 5, attempt: 1 });
	await eventually('a process host of the new release', () => hosts()[1]?.product === NEW);
	expect(hosts()[0], 'the pty host still has shells').toEqual(before[0]);
	expect(await world.up.run('run', '--', 'echo', 'on')).toMatchObject({ code: 0, stdout: 'on\n' });

	await other.leaves('exit 0', 0);
	await again.leaves('exit 0', 0);
	await eventually('a pty host of the new release', () => hosts()[0]?.product === NEW);
	const after = hosts();
	using last = world.person('shell', world.node);
	await last.sees('$');
	expect(await said(last, '$PPID')).toBe(String(after[0]?.pid));

	// An agent of the release before speaks to the host after it, by the older version. (Both copies have one format of the
	// journal; an agent that is older than its journal's format refuses it.)
	const pid = await said(last, '$$');
	const lastId = await world.openId();
	last[Symbol.dispose]();
	await become(products.old);
	expect(hosts()).toEqual(after);
	using back = world.person('terminal', 'attach', lastId);
	expect(await said(back, '$$')).toBe(pid);
	await back.leaves('exit 0', 0);
});

test('a host that speaks no version of the agent is left alone, and the agent says what to do', async () => {
	const product = dirname(copyProduct(join(world.up.root, 'products', '9.0.0'), '9.0.0', [9, 8]));
	const directory = join(world.up.root, 'future');
	mkdirSync(directory, { mode: 0o700 });
	const main = join(product, 'agent/pty-host/main.ts');
	const host = spawn(process.execPath, [main, directory], { stdio: 'ignore' });
	const ended = once(host, 'exit');
	try {
		await eventually('it is ready', () => readFileSync(join(directory, 'host.log'), 'utf8').includes('ready'));
		const reached = startPtyHost({ directory, clock: systemClock });
		await expect(reached).rejects.toMatchObject({
			reason: 'HOST_VERSION',
			message: expect.stringMatching(new RegExp(`9 or 8.*then stop this process: process ${host.pid},`)),
		});
		expect(readDirectoryLock(directory)).toMatchObject({ alive: true, lock: { pid: host.pid } });
	} finally {
		host.kill('SIGKILL');
		await ended;
	}
});
