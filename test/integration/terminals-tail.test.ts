import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { pickContext, putContext } from '../../cli/contexts.ts';
import { TerminalState } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { eventually } from '../eventually.ts';
import { DelayRelay } from '../fakes/delay-relay.ts';
import { TerminalsWorld } from './terminals-world.ts';
import { processes } from './up-world.ts';

const GPUAAS = fileURLToPath(new URL('../../gpuaas', import.meta.url));

/** What a program wrote last reaches whoever reads it, whatever breaks between its end and its reader. */
let world: TerminalsWorld;
let line: DelayRelay;
let far: Readonly<Record<string, string>>;

beforeAll(async () => {
	world = await TerminalsWorld.start();
	const own = world.up.env();
	const { name, ...context } = await pickContext({ env: own }, undefined);
	const { hostname, port } = new URL(context.address);
	line = await DelayRelay.listen({ host: hostname, port: Number(port) });
	far = { ...own, GPUAAS_CONFIG_DIR: join(world.up.root, 'config-far') };
	await putContext({ env: far }, name, { ...context, address: `https://${hostname}:${line.port}` });
});

afterAll(async () => {
	await line?.[Symbol.asyncDispose]();
	await world?.[Symbol.asyncDispose]();
});

test('a program that ends while its reader is away gives all that it wrote, and then its code', async () => {
	const flag = `${world.up.root}-goon`;
	const script = `echo first; until [ -e ${flag} ]; do sleep 0.05; done; echo the whole answer; echo oh >&2; exit 7`;
	const piped = world.up.start(['exec', world.node, '-n', '--', 'sh', '-c', script], far);
	await piped.line((text) => text === 'first');
	const id = await world.openId();
	line.refuse(true);
	line.cut();
	writeFileSync(flag, '');
	await isOver(flag);
	const { terminal } = await world.client().getTerminal({ terminalId: id });
	expect(terminal?.state).toBe(TerminalState.OPEN);
	line.refuse(false);
	const { code, stdout, stderr } = await piped.ended;
	expect([code, stdout]).toEqual([7, 'first\nthe whole answer\n']);
	expect(stderr).toContain('oh\n');
	await eventually(
		'it is closed',
		async () => (await world.client().getTerminal({ terminalId: id })).terminal?.state === TerminalState.CLOSED,
	);
});

/** What the reader takes before it stops: what is left then fits in the windows between it and the program. */
const READ_BYTES = 1_400_000;

test('a reader that is slow, and whose line breaks once the program is over, misses nothing', async () => {
	const bytes = 3_200_000;
	const flag = `${world.up.root}-written`;
	const argv = ['exec', world.node, '-n', '--', 'sh', '-c', `head -c ${bytes} /dev/zero; touch ${flag}`];
	const reading = spawn(GPUAAS, argv, { env: far, stdio: ['ignore', 'pipe', 'ignore'] });
	const closed = once(reading, 'close');
	let came = 0;
	reading.stdout.on('data', (chunk: Buffer) => {
		came += chunk.length;
		if (came > READ_BYTES && !existsSync(flag)) reading.stdout.pause();
	});
	await eventually('all is written', () => existsSync(flag));
	await isOver(flag);
	line.cut();
	reading.stdout.resume();
	expect(await closed).toEqual([0, null]);
	expect(came).toBe(bytes);
});

/** A script that has been there with these words in it, and is gone. */
async function isOver(words: string): Promise<void> {
	await eventually(
		'the program is over',
		() => !processes().some((one) => one.line.startsWith('sh -c') && one.line.includes(words)),
	);
}
