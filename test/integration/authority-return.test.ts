import { join } from 'node:path';
import { expect, test } from 'vitest';
import { putContext } from '../../cli/contexts.ts';
import { makePast, PAST_NODE, type PastInstallation } from './past-installation.ts';
import { UpWorld } from './up-world.ts';

/**
 * Both sides were off for longer than an issuing CA lives: the certificates of every listener and of every node have
 * ended, and with them every way in. Real processes, real TLS, the clock of this machine.
 */
const AWAY_DAYS = 100;
/** Four programs start one after the other. */
const STARTS_MS_MAX = 280_000;

interface Authority {
	readonly phase: string;
	readonly pins: readonly string[];
	readonly outlook: string;
	readonly keys: readonly { readonly purpose: string; readonly status: string }[];
}

/** As it was written when somebody logged in, then. */
async function oldContext(world: UpWorld, { ports, caPem, operatorKey }: PastInstallation): Promise<void> {
	const context = { address: `https://127.0.0.1:${ports.api}`, caPem, key: operatorKey };
	await putContext({ env: world.env() }, 'then', context);
}

async function isBack(world: UpWorld, actorKind: string): Promise<void> {
	const { authority } = await world.json<{ authority: Authority }>('ca', 'status', '--context', 'then');
	expect(authority.phase).toBe('ROTATION_PHASE_DRAINING');
	expect(authority.keys.filter(({ purpose }) => purpose === 'issuing').map(({ status }) => status)).toEqual([
		'old',
		'active',
	]);
	const list = async (action: string) =>
		(await world.json<{ records: { actorKind: string }[] }>('audit', 'list', '--action', action, '--context', 'then'))
			.records;
	const steps = await list('ca.rotate');
	expect(steps.map((record) => record.actorKind)).toEqual([actorKind, actorKind, actorKind]);
	expect(await list('nodes.recover')).toHaveLength(1);
	const ran = await world.run('run', '--context', 'then', '--node', PAST_NODE, '--', 'sh', '-c', 'echo back; exit 7');
	expect(ran).toMatchObject({ code: 7, stdout: 'back\n' });
}

test(
	'a control plane and a node that were off for 100 days come back by themselves',
	async () => {
		await using world = new UpWorld();
		const past = await makePast(world.data, AWAY_DAYS);
		await oldContext(world, past);
		expect(await world.up()).toMatchObject({ ready: true, node: PAST_NODE, firstTask: { exitCode: 0 } });
		await isBack(world, 'system');
	},
	STARTS_MS_MAX,
);

test(
	'with the rotation turned off it says what to do, and that brings them back',
	async () => {
		await using world = new UpWorld();
		const past = await makePast(world.data, AWAY_DAYS);
		await oldContext(world, past);
		const data = join(world.data, 'control-plane');
		const off = await world.run('control-plane', 'serve', '--data', data, '--set', 'ca.self_rotation=false');
		expect(off).toMatchObject({ code: 1, stdout: '' });
		expect(off.stderr).toMatch(/the replica CA ended at .* gpuaas ca renew/);
		expect((await world.run('ca', 'renew', '--data', world.root)).stderr).toContain(
			'no control plane was ever started',
		);
		const renewed = await world.json<{ phase: string; notAfter: string }>('ca', 'renew', '--data', data);
		expect(renewed.phase).toBe('draining');
		const again = await world.run('ca', 'renew', '--data', data);
		expect(again.code).toBe(1);
		expect(again.stderr).toContain(`live until ${renewed.notAfter}`);
		expect(await world.up()).toMatchObject({ ready: true, node: PAST_NODE, firstTask: { exitCode: 0 } });
		await isBack(world, 'operator');
	},
	STARTS_MS_MAX,
);
