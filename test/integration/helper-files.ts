import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process';
import { type HelperPart, ProgramFiles } from '../../agent/terminal/program-files.ts';

/** The helper programs as they run on a node: as an account that isn't root. */
export const NOBODY_UID = 65_534;

const DROP = [
	'--reuid',
	String(NOBODY_UID),
	'--regid',
	String(NOBODY_UID),
	'--clear-groups',
	'--no-new-privs',
	'--pdeathsig',
	'KILL',
];

export class HelperFiles extends ProgramFiles {
	/** Starts `agent/<part>/main` as nobody. */
	start(part: HelperPart, argument: string, cwd = '/'): ChildProcessWithoutNullStreams {
		return this.asNobody(this.argv(part, argument), cwd);
	}

	asNobody(argv: readonly string[], cwd = '/'): ChildProcessWithoutNullStreams {
		return spawn('setpriv', [...DROP, '--', ...argv], { cwd, env: { PATH: '/usr/bin:/bin', LANG: 'C.UTF-8' } });
	}
}

/** A folder that the account owns, with all that is in it. */
export function giveToNobody(folder: string): void {
	spawnSync('chown', ['-R', `${NOBODY_UID}:${NOBODY_UID}`, folder]);
}
