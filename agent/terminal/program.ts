import type { ChannelSpec, WindowSize } from '../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';
import type { FindAccount } from '../platform/accounts.ts';
import type { ChannelSize, OpenRequest } from '../pty-host/pty-host.ts';
import { globMatches, misfitOf, type Programs, programPath } from '../tasks/permit.ts';
import type { Policy } from '../tasks/policy.ts';
import { permittedEnv } from '../tasks/policy-env.ts';
import type { ProgramFiles } from './program-files.ts';
import { copyProgram, forwardProgram, type HelperVerdict } from './user-program.ts';

/**
 * From what a grant asks for to the program that is started, under this host's own policy (`[terminal]`): as whom, which
 * program, with which variables and limits. Everything is refused that the policy doesn't name. Pure but for the looks
 * at the disk that it is given.
 */
export interface ProgramRefusal {
	readonly kind: 'refused';
	/** common.v1.Reason without its prefix. */
	readonly reason: string;
	readonly message: string;
}

export type ProgramVerdict =
	| { readonly kind: 'ok'; readonly program: Omit<OpenRequest, 'id'>; readonly command: string }
	| ProgramRefusal;

export interface ProgramPlatform extends Programs {
	readonly findAccount: FindAccount;
	/** host:port of the control plane's gateways. */
	readonly gateways: readonly string[];
	/** Addresses and ranges of this host's management controller (platform/management.ts). */
	readonly management: readonly string[];
	readonly helpers: ProgramFiles;
}

const SIZE_DEFAULT: ChannelSize = { columns: 80, rows: 24 };
/** terminfo names; what a client sends beyond is not one. */
const TERM = /^[A-Za-z0-9+._-]{1,64}$/;
const TERM_DEFAULT = 'xterm-256color';

/** `never`: what the control plane keeps closed to forwards, beside the policy. */
export function judgeProgram(
	policy: Policy,
	spec: ChannelSpec,
	platform: ProgramPlatform,
	never: readonly string[] = [],
): ProgramVerdict {
	const { terminal } = policy;
	const mode = spec.kind.case;
	if (mode === undefined || !terminal.modes.some((allowed) => allowed === mode))
		return refuse('POLICY_TERMINAL', `this node opens no ${mode ?? 'terminal of that kind'} (terminal.modes)`);
	const user = spec.user === '' ? terminal.defaultUser : spec.user;
	if (user === undefined || !terminal.users.includes(user))
		return refuse('POLICY_USER', `nobody becomes ${user ?? 'anybody in particular'} on this node (terminal.users)`);
	if (user === 'root' && !terminal.root)
		return refuse('POLICY_USER', 'nobody becomes root on this node (terminal.root)');
	switch (spec.kind.case) {
		case 'shell':
			return shell(policy, spec, user, platform);
		case 'copy':
			return helperProgram(policy, user, platform, copyProgram(policy, spec.kind.value));
		case 'forward':
			return helperProgram(
				policy,
				user,
				platform,
				forwardProgram(policy, spec.kind.value, {
					gateways: platform.gateways,
					management: platform.management,
					never,
				}),
			);
		default:
			return exec(policy, spec, user, platform);
	}
}

function shell(policy: Policy, spec: ChannelSpec, user: string, platform: ProgramPlatform): ProgramVerdict {
	if (spec.kind.case !== 'shell') return refuse('POLICY_TERMINAL', 'this agent knows no such kind of terminal');
	const account = platform.findAccount(user);
	const asked = spec.kind.value.shell;
	const path = asked === '' ? (policy.terminal.defaultShell ?? account?.shell ?? '/bin/sh') : asked;
	if (!policy.terminal.shells.some((glob) => globMatches(glob, path)))
		return refuse('POLICY_SHELL', `${path} is not among the login shells of this node (terminal.shells)`);
	if (!platform.isExecutable(path))
		return refuse('SHELL_MISSING', `the shell ${path} isn't there, or can't be started; name another with --shell`);
	const tty = sizeOf(spec.kind.value.size);
	const env = loginEnv(policy, spec, user, path, account?.home, true);
	const cwd = account?.home ?? '/';
	return {
		kind: 'ok',
		program: { argv: [path, '-l'], env, cwd, user, tty, limits: limitsOf(policy) },
		command: `${path} -l`,
	};
}

function exec(policy: Policy, spec: ChannelSpec, user: string, platform: ProgramPlatform): ProgramVerdict {
	if (spec.kind.case !== 'exec') return refuse('POLICY_TERMINAL', 'this agent knows no such kind of terminal');
	const { argv, cwd, size } = spec.kind.value;
	const account = platform.findAccount(user);
	const folder = cwd === '' ? (account?.home ?? '/') : cwd;
	const { binaries, path: folders } = policy.terminal;
	const path = programPath(folders, { argv, cwd: folder }, platform.isExecutable);
	if (path === undefined) return refuse('COMMAND_NOT_FOUND', `there is no program ${argv[0]} in ${folders}`);
	const misfit = misfitOf({ globs: binaries, setting: 'terminal.binaries' }, path, platform);
	if (misfit !== undefined) return refuse(misfit.reason, misfit.message);
	const env = loginEnv(policy, spec, user, account?.shell ?? '/bin/sh', account?.home, size !== undefined);
	const tty = size === undefined ? {} : { tty: sizeOf(size) };
	return {
		kind: 'ok',
		program: { argv: [path, ...argv.slice(1)], env, cwd: folder, user, ...tty, limits: limitsOf(policy) },
		command: argv.join(' '),
	};
}

/** Our own program, as the account; nothing that a person brought changes how it runs. */
function helperProgram(policy: Policy, user: string, platform: ProgramPlatform, helper: HelperVerdict): ProgramVerdict {
	if (helper.kind === 'refused') return refuse(helper.reason, helper.message);
	const home = platform.findAccount(user)?.home ?? '/';
	const env = { PATH: policy.terminal.path, HOME: home, USER: user, LOGNAME: user, LANG: 'C.UTF-8' };
	const argv = platform.helpers.argv(helper.part, helper.argument);
	const { command } = helper;
	return { kind: 'ok', program: { argv, env, cwd: home, user, limits: limitsOf(policy) }, command };
}

/** As login(1) sets it, beside what the policy lets a person bring. */
function loginEnv(
	{ terminal }: Policy,
	{ env }: ChannelSpec,
	user: string,
	shellPath: string,
	home: string | undefined,
	hasTerminal: boolean,
): Record<string, string> {
	const { TERM: term = '', ...brought } = permittedEnv(terminal.env, env);
	return {
		PATH: terminal.path,
		...brought,
		HOME: home ?? '/',
		USER: user,
		LOGNAME: user,
		SHELL: shellPath,
		...(hasTerminal ? { TERM: TERM.test(term) ? term : TERM_DEFAULT } : {}),
	};
}

function sizeOf(size: WindowSize | undefined): ChannelSize {
	return size === undefined ? SIZE_DEFAULT : { columns: size.columns, rows: size.rows };
}

/** The node's ceilings bind terminals as they bind tasks. */
function limitsOf({ limits }: Policy): OpenRequest['limits'] {
	const { memoryBytes, processes, openFiles, cpuSeconds, cpuMilli } = limits;
	return {
		...(memoryBytes === undefined ? {} : { memoryBytes }),
		...(processes === undefined ? {} : { processes }),
		...(openFiles === undefined ? {} : { openFiles }),
		...(cpuSeconds === undefined ? {} : { cpuSeconds }),
		...(cpuMilli === undefined ? {} : { cpuQuota: cpuMilli / 1000 }),
	};
}

function refuse(reason: string, message: string): ProgramRefusal {
	return { kind: 'refused', reason, message: `${message}; nothing was started. The node's policy file decides` };
}
