/**
 * The command line that turns into the task by exec in place, one process from fork to task:
 *   [prlimit <limits> --] setpriv <identity> -- [env [--chdir=DIR] -- [NAME=VALUE...]] argv
 * Never the uid/gid options of child_process, which drop every supplementary group; never a shell, which would rewrite
 * the environment.
 *
 * The wrappers run before the identity drops, with the task's environment, and are not setuid, so the loader obeys it:
 * an LD_PRELOAD of a tenant would run as root. Variables that a loader, libc or a name-service module reads are
 * therefore held back and set by env(1) after the drop. They show in its command line for that moment; none of them is
 * a place for a secret, and everything else goes by the environment alone.
 *
 * The working directory is entered after the drop, too, by env(1): whoever starts this does so in `/`. Root can stand
 * where the account may not go, and a program that begins there could read on by relative paths. For another account
 * env(1) is always there: setpriv keeps its capabilities until it execs, so that it would find, and start, a program in
 * a folder that the account may not enter.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { UnixUser } from './users.ts';

const FOLDERS = ['/usr/bin', '/bin', '/usr/sbin', '/sbin'];

const HELD_BACK =
	/^(LD_|GLIBC_|MALLOC_|MUSL|GCONV_|GETCONF_|LOCPATH$|LOCALDOMAIN$|LANGUAGE$|OUTPUT_CHARSET$|TEXTDOMAIN|NLSPATH$|HOSTALIASES$|RES|NIS_|NSS_|TZ|TMPDIR$|POSIXLY_CORRECT$|LDAP|KRB5|SASL_|GNUTLS_|SSL_|OPENSSL|_?SSS_|SYSTEMD_|SELINUX|LIBMOUNT|UL_|CAPNG_)/;

export interface ExecChain {
	readonly file: string;
	readonly args: readonly string[];
	readonly env: Readonly<Record<string, string>>;
}

export interface ExecRequest {
	readonly argv: readonly string[];
	readonly env: Readonly<Record<string, string>>;
	/** Absolute. */
	readonly cwd: string;
}

export interface Wrappers {
	readonly setpriv: string;
	readonly prlimit: string;
	readonly env: string;
	/** Whether `setpriv` could drop to another user when the host started. */
	readonly userSwitch: boolean;
}

/**
 * SIGKILL for the leader when the host's main thread ends, whatever ended it. The kernel clears it when the task execs
 * something that gains privileges (which no-new-privs prevents) and it binds the leader only: `reap` does the rest.
 */
const ALWAYS = ['--no-new-privs', '--pdeathsig', 'KILL'];

function identityOptions(user: UnixUser): readonly string[] {
	return [
		'--reuid',
		String(user.uid),
		'--regid',
		String(user.gid),
		'--init-groups',
		'--inh-caps=-all',
		'--ambient-caps=-all',
		'--bounding-set=-all',
	];
}

function find(name: string): string {
	const folder = FOLDERS.find((each) => existsSync(join(each, name)));
	if (folder === undefined) throw new Error(`${name} is missing; install util-linux and coreutils`);
	return join(folder, name);
}

/** Finds the wrappers and tries them once; throws when tasks couldn't be started at all. */
export function findWrappers(self: UnixUser): Wrappers {
	const [setpriv, prlimit, env] = [find('setpriv'), find('prlimit'), find('env')];
	const works = (options: readonly string[]) =>
		spawnSync(setpriv, [...options, '--', env, '--chdir=/', '-i', 'true'], {
			env: {},
			stdio: 'ignore',
			timeout: 10_000,
		}).status === 0;
	if (!works(ALWAYS))
		throw new Error(
			'setpriv --no-new-privs --pdeathsig or env --chdir does not work here; util-linux 2.35 and coreutils 8.28 have them',
		);
	return { setpriv, prlimit, env, userSwitch: self.uid === 0 && works([...ALWAYS, ...identityOptions(self)]) };
}

/** `user` undefined: as the host, with the host's capabilities. To be started in `/`. */
export function execChain(
	wrappers: Wrappers,
	user: UnixUser | undefined,
	rlimits: readonly string[],
	{ argv, env, cwd }: ExecRequest,
): ExecChain {
	const early: Record<string, string> = {};
	const late: string[] = [];
	for (const [name, value] of Object.entries(env)) {
		if (HELD_BACK.test(name)) late.push(`${name}=${value}`);
		else early[name] = value;
	}
	const identity = user === undefined ? ALWAYS : [...ALWAYS, ...identityOptions(user)];
	const enter = cwd === '/' ? [] : [`--chdir=${cwd}`];
	const isDirect = user === undefined && late.length + enter.length === 0;
	const prepare = isDirect ? [] : [wrappers.env, ...enter, '--', ...late];
	const chain = [wrappers.setpriv, ...identity, '--', ...prepare, ...argv];
	const limited = rlimits.length === 0 ? chain : [wrappers.prlimit, ...rlimits, '--', ...chain];
	const [file = wrappers.setpriv, ...args] = limited;
	return { file, args, env: early };
}
