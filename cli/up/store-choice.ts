import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { GpuaasError } from '../../kit/error.ts';
import { writeSecret } from './data-folder.ts';

/**
 * Where a data folder has its records: the keys in it and the records in the store belong together. A later `up` that
 * does not name the store goes on with the same one, and one that names another is refused: either would show a control
 * plane that knows nothing of what was there.
 */
interface KeptStore {
	readonly url: string;
	/** A control plane was up on it. Until then a person may correct what they named. */
	readonly used: boolean;
}

/** What an `up` that names `named` (or nothing) uses; undefined for SQLite in the folder. Throws for another one. */
export async function chooseStore(root: string, named: string | undefined): Promise<string | undefined> {
	const kept = await readStore(root);
	if (named === undefined || named === kept?.url) return kept?.url;
	if (kept?.used ?? (await hasSqlite(root))) {
		const where = kept === undefined ? 'in SQLite' : 'in another store';
		const moved = kept === undefined ? '' : `; a database that has moved: put its new address into ${pathOf(root)}`;
		throw new GpuaasError({
			code: 'FAILED_PRECONDITION',
			reason: 'ALREADY_EXISTS',
			message: `${root} has its records ${where}, and would lose sight of them; leave out --store to go on with them, or choose another folder with --data${moved}`,
		});
	}
	return named;
}

/** Said before a control plane starts on it (`used` false) and once it is up. Readable by its owner alone. */
export function keepStore(root: string, url: string, used: boolean): Promise<void> {
	return writeSecret(pathOf(root), `${JSON.stringify({ url, used } satisfies KeptStore)}\n`);
}

export async function readStore(root: string): Promise<KeptStore | undefined> {
	const path = pathOf(root);
	let text: string;
	try {
		text = await readFile(path, 'utf8');
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
		throw error;
	}
	try {
		const { url, used } = JSON.parse(text) as Partial<KeptStore>;
		if (typeof url === 'string' && typeof used === 'boolean') return { url, used };
	} catch {
		// As if it said something else.
	}
	throw new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'CONFIG_INVALID',
		message: `${path} doesn't say where the records are; it holds {"url":"postgres://user@host/database","used":true}, and is absent for SQLite`,
	});
}

function pathOf(root: string): string {
	return join(root, 'store.json');
}

async function hasSqlite(root: string): Promise<boolean> {
	return (await stat(join(root, 'control-plane', 'control-plane.db')).catch(() => undefined)) !== undefined;
}
