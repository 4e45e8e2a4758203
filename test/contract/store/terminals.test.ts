import { expect, test } from 'vitest';
import type { TerminalRow } from '../../../control-plane/store/port/terminals.ts';
import { insertProject } from './projects.ts';
import { assignmentRow, nodeRow, principalRow, terminalRow } from './rows.ts';
import { eachStore } from './stores.ts';

eachStore('terminals', (kind) => {
	async function withRows(...rows: readonly TerminalRow[]) {
		const world = await kind.create();
		await world.store.unit(function* (tx) {
			for (const id of ['n1', 'n2']) yield* tx.nodes.insert(nodeRow(id));
			yield* insertProject(tx, 'acme', 'train');
			yield* tx.assignments.insert(assignmentRow('a1', 'n1'));
			for (const each of rows) yield* tx.terminals.insert(each);
		});
		return world;
	}
	const idsOf = (rows: readonly TerminalRow[]) => rows.map(({ id }) => id);

	test('a row comes back as it was put in, and changes until it is closed, never after', async () => {
		const first = terminalRow('t1', { assignmentId: 'a1', organization: 'acme', project: 'train' });
		await using world = await withRows(first);
		const { store } = world;
		expect(await store.read((tx) => tx.terminals.get('t1'))).toEqual(first);
		expect(await store.unit((tx) => tx.terminals.update('t1', { detachedAtMs: null }))).toEqual({
			...first,
			detachedAtMs: null,
		});
		const end = { state: 'closed', closedAtMs: 20, exitCode: 0, signal: null, reason: 'TERMINAL_EXITED' } as const;
		expect(await store.unit((tx) => tx.terminals.update('t1', end))).toMatchObject({ ...end, detachedAtMs: null });
		const again = { state: 'closed', reason: 'NODE_LOCKED' } as const;
		expect(await store.unit((tx) => tx.terminals.update('t1', again))).toBeUndefined();
		expect(await store.read((tx) => tx.terminals.get('t1'))).toMatchObject(end);
		expect(await store.unit((tx) => tx.terminals.update('t2', again))).toBeUndefined();
	});

	test('an id is there once', async () => {
		await using world = await withRows(terminalRow('t1'));
		await expect(world.store.unit((tx) => tx.terminals.insert(terminalRow('t1')))).rejects.toMatchObject({
			code: 'ALREADY_EXISTS',
		});
	});

	test('what is open, of a node or of all, page by page; a node counts its own', async () => {
		await using world = await withRows(
			terminalRow('t1'),
			terminalRow('t2', { state: 'opening', openedAtMs: null, organization: 'acme', project: 'train' }),
			terminalRow('t3', { nodeId: 'n2', organization: 'acme', project: 'train' }),
			terminalRow('t4', { state: 'closed', closedAtMs: 5, organization: 'acme', project: 'train' }),
		);
		const { store } = world;
		const open = async (nodeId: string | null, afterId = '', limit = 10) =>
			idsOf(await store.read((tx) => tx.terminals.listOpen(nodeId, afterId, limit)));
		expect(await open(null)).toEqual(['t1', 't2', 't3']);
		expect(await open('n1')).toEqual(['t1', 't2']);
		expect(await open(null, 't1', 1)).toEqual(['t2']);
		const count = (nodeId: string) => store.read((tx) => tx.terminals.countOpen(nodeId));
		expect([await count('n1'), await count('n2'), await count('n3')]).toEqual([2, 1, 0]);
		const ofPerson = (id: string) => store.unit((tx) => tx.terminals.countOpenOf(id, 'acme'));
		expect([await ofPerson('ada'), await ofPerson('bo')]).toEqual([2, 0]);
		await store.unit((tx) => tx.terminals.update('t1', { state: 'closed', closedAtMs: 6 }));
		expect(await count('n1')).toBe(1);
		await store.unit((tx) => tx.terminals.update('t3', { state: 'closed', closedAtMs: 6 }));
		expect(await ofPerson('ada')).toBe(1);
	});

	test('a list is filtered by node, by state and by what the caller may see, newest first', async () => {
		const theirs = { organization: 'acme', project: 'train' };
		await using world = await withRows(
			terminalRow('t1', theirs),
			terminalRow('t2', { nodeId: 'n2' }),
			terminalRow('t3', { ...theirs, state: 'closed', closedAtMs: 5 }),
		);
		const none = { all: false, unowned: false, deleted: false, grants: [], denials: [] } as const;
		const list = async (more: object) => {
			const visibility = { all: true } as const;
			const page = { afterId: '', limit: 10, nodeId: null, includeClosed: true, visibility };
			return idsOf(await world.store.read((tx) => tx.terminals.list({ ...page, ...more })));
		};
		expect(await list({})).toEqual(['t3', 't2', 't1']);
		expect(await list({ afterId: 't3', limit: 1 })).toEqual(['t2']);
		expect(await list({ includeClosed: false })).toEqual(['t2', 't1']);
		expect(await list({ nodeId: 'n2' })).toEqual(['t2']);
		expect(await list({ visibility: none })).toEqual([]);
		expect(await list({ visibility: { ...none, grants: ['/acme/'] } })).toEqual(['t3', 't1']);
		expect(await list({ visibility: { ...none, grants: ['/acme/'] }, includeClosed: false })).toEqual(['t1']);
		expect(
			await list({ visibility: { ...none, unowned: true, deleted: true, grants: ['/'], denials: ['/acme/'] } }),
		).toEqual(['t2']);
	});

	test('a share is one for each principal, replaced and withdrawn', async () => {
		await using world = await withRows(terminalRow('t1'), terminalRow('t2'));
		const { store } = world;
		await store.unit((tx) => tx.identities.insertPrincipal(principalRow('bo')));
		const share = { terminalId: 't1', principalId: 'bo', mode: 'observe', createdBy: 'ada', createdAtMs: 1 } as const;
		const found = (terminalId: string, principalId = 'bo') =>
			store.read((tx) => tx.terminals.getShare(terminalId, principalId));
		await store.unit((tx) => tx.terminals.putShare(share));
		expect(await found('t1')).toEqual(share);
		expect([await found('t2'), await found('t1', 'cy')]).toEqual([undefined, undefined]);
		await store.unit((tx) => tx.terminals.putShare({ ...share, mode: 'control', createdAtMs: 2 }));
		expect(await found('t1')).toEqual({ ...share, mode: 'control', createdAtMs: 2 });
		await store.unit((tx) => tx.terminals.deleteShare('t1', 'bo'));
		await store.unit((tx) => tx.terminals.deleteShare('t1', 'bo'));
		expect(await found('t1')).toBeUndefined();
	});
});
