import { afterAll, beforeAll, expect, test } from 'vitest';
import { CopyAccess } from '../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';
import { FileService, PortService } from '../../proto/gen/gpuaas/terminals/v1/files_pb.ts';
import { TerminalService } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { ApiWorld } from './api-world.ts';

/** What is refused before a node is asked; the rest is in cp-forward.test.ts, against the whole product. */
let world: ApiWorld;
let node = '';
beforeAll(async () => {
	world = await ApiWorld.start();
	node = (await world.addNode()).id;
});
afterAll(() => world[Symbol.asyncDispose]());

test('a node that is not connected is said to be so, and nothing is opened', async () => {
	const files = world.client(FileService, world.operatorKey);
	const ports = world.client(PortService, world.operatorKey);
	const calls = [
		files.readFiles({ node, path: '/x' }),
		files.writeFiles({ node, path: '/x' }),
		ports.forwardPort({ node, port: 80 }),
	];
	for (const call of calls) await expect(call).rejects.toThrow('not connected');
	const { terminals } = await world.client(TerminalService, world.operatorKey).listTerminals({ includeClosed: true });
	expect(terminals).toEqual([]);
});

test('input that means nothing is refused by name', async () => {
	const files = world.client(FileService, world.operatorKey);
	const ports = world.client(PortService, world.operatorKey);
	await expect(files.readFiles({ node, path: 'a\0b' })).rejects.toThrow('NUL');
	await expect(files.writeFiles({ node, path: 'x'.repeat(5000) })).rejects.toThrow(/4096|path/);
	await expect(files.readFiles({ node, path: '/x', user: 'no such; user' })).rejects.toThrow(/user/);
	for (const port of [0, 65_536]) await expect(ports.forwardPort({ node, port })).rejects.toThrow(/port/);
	await expect(ports.forwardPort({ node, port: 1, host: 'x'.repeat(300) })).rejects.toThrow(/host/);
});

test('the permission for shells opens neither files nor ports', async () => {
	const terminals = world.client(TerminalService, world.operatorKey);
	for (const kind of [
		{ case: 'copy', value: { access: CopyAccess.READ, path: '/etc/shadow' } },
		{ case: 'forward', value: { port: 80 } },
	] as const)
		await expect(terminals.openTerminal({ node, spec: { kind } })).rejects.toThrow(/neither spec.shell nor spec.exec/);
	const viewer = await world.addPrincipal('user', 'platform.viewer', 'platform');
	await expect(world.client(FileService, viewer).readFiles({ node, path: '/x' })).rejects.toThrow('files.read');
	await expect(world.client(FileService, viewer).writeFiles({ node, path: '/x' })).rejects.toThrow('files.write');
	await expect(world.client(PortService, viewer).forwardPort({ node, port: 80 })).rejects.toThrow('ports.forward');
});
