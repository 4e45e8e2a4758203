import { open, readFile, rename, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { GpuaasError } from '../../../kit/error.ts';

/**
 * Which log this is, in `<heads file>.log` beside the heads, outside the database: a restored database must not take the
 * number back. Absent: the first. The heads of a log that ended stay as `<heads file>.log-N` and are never read again.
 */
export interface LogState {
	readonly number: number;
	readonly begunAtMs: number;
	readonly reason: string;
	/** The head that was lost. */
	readonly cites: { readonly size: number; readonly note: string };
}

const NUMBER_MAX = 999_999;

/** Throws AUDIT_UNAVAILABLE for a damaged file: a guess could sign a second history. */
export async function readLogNumber(headsPath: string): Promise<number> {
	const number = await readNumber(`${headsPath}.log`);
	// A crash between the two steps of `beginLog`.
	if (number > 1) await setAside(headsPath, number - 1);
	return number;
}

/** The new log is in force once this resolves; the former one's heads are set aside. */
export async function beginLog(headsPath: string, state: LogState): Promise<void> {
	const draft = await open(`${headsPath}.log.draft`, 'w', 0o644);
	try {
		await draft.writeFile(`${JSON.stringify(state)}\n`);
		await draft.sync();
	} finally {
		await draft.close();
	}
	await rename(`${headsPath}.log.draft`, `${headsPath}.log`);
	await setAside(headsPath, state.number - 1);
}

async function readNumber(path: string): Promise<number> {
	let text: string;
	try {
		text = await readFile(path, 'utf8');
	} catch (error) {
		if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return 1;
		throw error;
	}
	try {
		const { number }: Partial<LogState> = JSON.parse(text);
		if (Number.isInteger(number) && Number(number) > 1 && Number(number) <= NUMBER_MAX) return Number(number);
	} catch {
		// One message for both.
	}
	throw new GpuaasError({
		code: 'DATA_LOSS',
		reason: 'AUDIT_UNAVAILABLE',
		message: `${path} doesn't say which audit log this is; restore the file that was beside the heads`,
	});
}

/** Once: what stands under that name already is evidence. */
async function setAside(headsPath: string, former: number): Promise<void> {
	const kept = `${headsPath}.log-${former}`;
	if ((await exists(kept)) || !(await exists(headsPath))) return;
	await rename(headsPath, kept);
	for (let index = 1; await exists(`${headsPath}.${index}`); index += 1)
		await rename(`${headsPath}.${index}`, `${kept}.${index}`);
	const folder = await open(dirname(headsPath), 'r');
	try {
		await folder.sync();
	} finally {
		await folder.close();
	}
}

async function exists(path: string): Promise<boolean> {
	return await stat(path).then(
		() => true,
		() => false,
	);
}
