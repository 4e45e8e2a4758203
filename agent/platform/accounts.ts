import { readFileSync, statSync } from 'node:fs';

/**
 * Homes of local accounts, for a task's default folder and environment. /etc/passwd only: whether an account exists and
 * which ids it has is the process host's business, which asks the name service.
 */
export type FindHome = (user: string) => string | undefined;

export function passwdHomes(path = '/etc/passwd'): FindHome {
	let homes = new Map<string, string>();
	let readAtMtimeMs = Number.NaN;
	return (user) => {
		try {
			const { mtimeMs } = statSync(path);
			if (mtimeMs !== readAtMtimeMs) {
				homes = new Map(readFileSync(path, 'utf8').split('\n').flatMap(homeOf));
				readAtMtimeMs = mtimeMs;
			}
		} catch {
			return undefined;
		}
		const home = homes.get(user);
		return home !== undefined && isFolder(home) ? home : undefined;
	};
}

/** Accounts of services name homes that were never made (`/nonexistent`). */
function isFolder(path: string): boolean {
	try {
		return statSync(path).isDirectory();
	} catch {
		return false;
	}
}

function homeOf(line: string): [string, string][] {
	const fields = line.split(':');
	const [name, , , , , home] = fields;
	return name && home?.startsWith('/') ? [[name, home]] : [];
}
