import { readFileSync, statSync } from 'node:fs';

/**
 * Local accounts' homes and shells, for default folders and environments. /etc/passwd only: whether an account exists
 * and which ids it has is the hosts' business, who ask the name service.
 */
export type FindHome = (user: string) => string | undefined;

export interface Account {
	/** Undefined where there is no such folder: accounts of services name homes that were never made. */
	readonly home: string | undefined;
	/** Undefined when it names none. */
	readonly shell: string | undefined;
}

export type FindAccount = (user: string) => Account | undefined;

export function passwdAccounts(path = '/etc/passwd'): FindAccount {
	let accounts = new Map<string, { readonly home: string | undefined; readonly shell: string | undefined }>();
	let readAtMtimeMs = Number.NaN;
	return (user) => {
		try {
			const { mtimeMs } = statSync(path);
			if (mtimeMs !== readAtMtimeMs) {
				accounts = new Map(readFileSync(path, 'utf8').split('\n').flatMap(accountOf));
				readAtMtimeMs = mtimeMs;
			}
		} catch {
			return undefined;
		}
		const account = accounts.get(user);
		if (account === undefined) return undefined;
		const { home, shell } = account;
		return { home: home !== undefined && isFolder(home) ? home : undefined, shell };
	};
}

export function passwdHomes(path = '/etc/passwd'): FindHome {
	const find = passwdAccounts(path);
	return (user) => find(user)?.home;
}

function isFolder(path: string): boolean {
	try {
		return statSync(path).isDirectory();
	} catch {
		return false;
	}
}

function accountOf(line: string): [string, Account][] {
	const [name, , , , , home, shell] = line.split(':');
	const absolute = (path: string | undefined) => (path?.startsWith('/') ? path : undefined);
	return name ? [[name, { home: absolute(home), shell: absolute(shell) }]] : [];
}
