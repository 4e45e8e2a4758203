/**
 * From a unix user's name to its ids, by the machine's own name service (`getent`, which knows LDAP and SSSD too), asked
 * with an empty environment. Answers are kept for a minute: a removed user can start tasks for that long, no longer.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import type { Clock } from '../../kit/clock.ts';

const KEEP_MS = 60_000;
const KEPT_MAX = 1024;

export interface UnixUser {
	readonly name: string;
	readonly uid: number;
	readonly gid: number;
}

function parsePasswd(line: string): UnixUser | undefined {
	const [name, , uid, gid] = line.split(':');
	if (name === undefined || !/^\d+$/.test(uid ?? '') || !/^\d+$/.test(gid ?? '')) return undefined;
	return { name, uid: Number(uid), gid: Number(gid) };
}

function lookUp(name: string): Promise<UnixUser | undefined> {
	return new Promise((resolve) => {
		const options = { env: { PATH: '/usr/bin:/bin' }, timeout: 10_000 };
		execFile('getent', ['passwd', '--', name], options, (error, stdout) => {
			const missing = error !== null && (error as NodeJS.ErrnoException).code === 'ENOENT';
			const text = missing ? readFileSync('/etc/passwd', 'utf8') : stdout;
			// getent takes a number for an id: only the very name that was asked for will do.
			for (const line of text.split('\n')) {
				const user = parsePasswd(line);
				if (user?.name === name) return resolve(user);
			}
			resolve(undefined);
		});
	});
}

export class Users {
	readonly #clock: Clock;
	readonly #kept = new Map<string, { readonly user: UnixUser; readonly untilMs: number }>();
	/** The host's own. */
	readonly self: UnixUser;

	constructor(clock: Clock) {
		this.#clock = clock;
		const { username, uid, gid } = userInfo();
		this.self = { name: username, uid, gid };
	}

	async find(name: string): Promise<UnixUser | undefined> {
		const nowMs = this.#clock.monotonic();
		const kept = this.#kept.get(name);
		if (kept !== undefined && kept.untilMs > nowMs) return kept.user;
		this.#kept.delete(name);
		const user = await lookUp(name);
		if (user === undefined) return undefined;
		if (this.#kept.size >= KEPT_MAX) this.#kept.clear();
		this.#kept.set(name, { user, untilMs: nowMs + KEEP_MS });
		return user;
	}
}
