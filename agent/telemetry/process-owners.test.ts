import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ownerFinder, type ProcessOwner } from './process-owners.ts';

let root: string;
beforeEach(() => {
	root = mkdtempSync(join(tmpdir(), 'owners-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function running(pid: number, cgroup: string, session: number): void {
	mkdirSync(join(root, String(pid)));
	writeFileSync(join(root, `${pid}/cgroup`), `4:memory:/x\n0::${cgroup}\n`);
	writeFileSync(join(root, `${pid}/stat`), `${pid} (odd) name 1) S 1 ${session} ${session} 0 -1 0\n`);
}

const UNIT = '/system.slice/gpuaas-process-host.service';
const task: ProcessOwner = { kind: 'task', id: 'T', box: 'T.1', base: UNIT, leaderPid: 100 };
const terminal: ProcessOwner = { kind: 'terminal', id: 'C', box: 'C', base: '/gpuaas-x', leaderPid: undefined };

it('a process is of the task or terminal whose control group it is in, however deep', () => {
	running(7, `${UNIT}/task-T.1`, 7);
	running(8, `${UNIT}/devices-a1/task-T.1/job/7`, 8);
	running(9, '/gpuaas-x/task-C', 9);
	const find = ownerFinder(root, [task, terminal]);
	expect([7, 8, 9].map((pid) => find({ pid })?.id)).toEqual(['T', 'T', 'C']);
});

it('nobody is an owner by a name that they gave to a control group of their own', () => {
	running(5, '/user.slice/user-7.slice/task-T.1', 5);
	running(6, `${UNIT}/task-OTHER.1/task-T.1`, 6);
	running(7, `${UNIT}/devices-a1/task-OTHER.1/task-C`, 7);
	// A host's name for another kind.
	running(8, '/gpuaas-x/task-T.1', 8);
	running(9, `/user.slice${UNIT}/task-T.1`, 9);
	const find = ownerFinder(root, [task, terminal, { ...task, id: 'S', box: 'S.1', base: undefined }]);
	expect([5, 6, 7, 8, 9].map((pid) => find({ pid })?.id)).toEqual([
		undefined,
		undefined,
		undefined,
		undefined,
		undefined,
	]);
});

it('without one of its own it is of whose session it is in', () => {
	running(101, '/', 100);
	expect(ownerFinder(root, [task, terminal])({ pid: 101 })).toBe(task);
});

it('else it is nobody’s: of another program, a task that is over, or gone', () => {
	running(7, '/user.slice', 6);
	running(8, '/gpuaas-x/task-OLD.1', 8);
	const find = ownerFinder(root, [task, terminal]);
	expect([7, 8, 9].map((pid) => find({ pid }))).toEqual([undefined, undefined, undefined]);
});
