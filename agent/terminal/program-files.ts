import {
	chmodSync,
	copyFileSync,
	cpSync,
	mkdtempSync,
	readdirSync,
	realpathSync,
	rmSync,
	statSync,
	writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { assert } from '../../kit/assert.ts';
import { loaderArgs } from '../../kit/loader-args.ts';
import { isSameProcess, processIdentity } from '../../kit/process-identity.ts';

/**
 * Our helper programs where every account can read them. A package lies in a place like that; a checkout may lie below
 * somebody's home, which no other account may enter: then what the helpers are made of is copied, once, to a folder of
 * root's that everybody may read and nobody else write, and removed with the agent.
 */
export type HelperPart = 'files' | 'forward';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const EXTENSION = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
const FOLDERS = ['kit', 'channel', 'agent/files', 'agent/forward'];
/** With the process that it belongs to: what a killed agent left is removed by the next. */
const NAME = /^gpuaas-programs-(\d{1,10})-(\d{1,20})-([0-9a-f-]{36})-/;

export class ProgramFiles implements Disposable {
	#copy: string | undefined;
	#isReachable: boolean | undefined;

	/** The command line of a helper with its one argument. */
	argv(part: HelperPart, argument: string): readonly string[] {
		this.#isReachable ??= process.getuid?.() !== 0 || [process.execPath, mainOf(ROOT, part)].every(isReachable);
		if (this.#isReachable) return [process.execPath, ...OPTIONS, ...loaderArgs(), mainOf(ROOT, part), argument];
		this.#copy ??= copied();
		return [join(this.#copy, 'node'), ...OPTIONS, mainOf(this.#copy, part), argument];
	}

	[Symbol.dispose](): void {
		if (this.#copy !== undefined) rmSync(this.#copy, { recursive: true, force: true });
		this.#copy = undefined;
	}
}

/** A copy passes through much memory that is garbage at once; V8 collects its whole small heap for every few MB of it. */
const OPTIONS = ['--disable-warning=ExperimentalWarning', '--initial-old-space-size=64', '--expose-gc'];

function mainOf(root: string, part: HelperPart): string {
	return join(root, 'agent', part, `main.${EXTENSION}`);
}

/** Whether an account that owns nothing of it may enter every folder on the way and read what is there. */
function isReachable(path: string): boolean {
	const real = realpathSync(path);
	if ((statSync(real).mode & 0o004) === 0) return false;
	for (let folder = dirname(real); ; folder = dirname(folder)) {
		if ((statSync(folder).mode & 0o001) === 0) return false;
		if (folder === dirname(folder)) return true;
	}
}

function copied(): string {
	removeLeftovers();
	const self = processIdentity(process.pid);
	assert(self !== undefined, '/proc shows this process');
	const { pid, startTimeTicks, bootId } = self;
	const folder = mkdtempSync(join(tmpdir(), `gpuaas-programs-${pid}-${startTimeTicks}-${bootId}-`));
	chmodSync(folder, 0o755);
	for (const part of FOLDERS) cpSync(join(ROOT, part), join(folder, part), { recursive: true });
	writeFileSync(join(folder, 'package.json'), '{"type":"module"}\n');
	openToAll(folder);
	copyFileSync(process.execPath, join(folder, 'node'));
	chmodSync(join(folder, 'node'), 0o755);
	return folder;
}

/** Read and enter, whatever the umask and the modes of the checkout are. */
function openToAll(folder: string): void {
	for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true }))
		chmodSync(join(entry.parentPath, entry.name), entry.isDirectory() ? 0o755 : 0o644);
}

function removeLeftovers(): void {
	for (const name of readdirSync(tmpdir())) {
		const [, pid, ticks, bootId] = NAME.exec(name) ?? [];
		if (pid === undefined || ticks === undefined || bootId === undefined) continue;
		const path = join(tmpdir(), name);
		const isOurs = statSync(path, { throwIfNoEntry: false })?.uid === process.getuid?.();
		if (isOurs && !isSameProcess({ pid: Number(pid), startTimeTicks: Number(ticks), bootId }))
			rmSync(path, { recursive: true, force: true });
	}
}
