import { type ConfigOf, loadConfig } from '../../kit/config.ts';
import { bool, bytes, duration, int, list, oneOf, optional, string } from '../../kit/config-fields.ts';
import { GpuaasError } from '../../kit/error.ts';
import { isRange } from '../forward/address.ts';
import { parsePattern } from '../forward/pattern.ts';
import { ENV_GLOB } from './policy-env.ts';

/**
 * The node's own policy, `agent.policy.toml`: what this host does for anybody, however well signed. It is read from this
 * host's disk and nowhere else, so the control plane can't widen it. Everything is denied that isn't named; unknown
 * keys are errors with their place. Pure: the main reads the file. permit.ts judges by it.
 */
const KINDS = ['run', 'collect_bundle', 'reboot', 'inject_fault'] as const;
export const BUNDLE_PARTS = ['agent', 'kernel', 'processes', 'network', 'disks'] as const;
export type BundlePart = (typeof BUNDLE_PARTS)[number];

const USER = /^[a-z_][a-z0-9_-]{0,31}$/;
/** Kinds of channel (terminals.v1.ChannelSpec). */
const TERMINAL_MODES = ['shell', 'exec', 'copy', 'forward'] as const;
const oneOfThese = (values: readonly string[]) => new RegExp(`^(${values.join('|')})$`);

const SCHEMA = {
	tasks: {
		kinds: list({
			doc: 'Kinds of task that this node takes; inject_fault lets the control plane have this agent say, marked as simulated, that something is wrong.',
			default: [],
			pattern: oneOfThese(KINDS),
			expects: `some of ${KINDS.join(', ')}`,
		}),
	},
	run: {
		users: list({ doc: 'Local accounts that tasks may run as.', default: [], pattern: USER, expects: 'account names' }),
		defaultUser: optional(
			string({
				doc: 'For a task that names no account; must be in `users`.',
				pattern: USER,
				expects: 'an account name',
			}),
		),
		binaries: list({
			doc: 'Programs that may be started: absolute paths; * matches inside one folder name, ** across folders. Of a symbolic link both the link and the file it leads to must match.',
			default: [],
			pattern: /^\/[^\0]*$/,
			expects: 'absolute paths',
		}),
		env: list({
			doc: 'Variables that tasks may set: names; * stands for any part of one. PATH and those that make loaders and interpreters run other code (LD_*, BASH_ENV, PYTHONPATH, HOME ...) only by their exact names.',
			default: [],
			pattern: ENV_GLOB,
			expects: 'names of variables',
		}),
		path: string({
			doc: 'Where a program that is named without a folder is looked for, and PATH of the task unless env names PATH.',
			default: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
			pattern: /^\/[^\0:]*(:\/[^\0:]*)*$/,
			expects: 'absolute folders with colons between them',
		}),
	},
	limits: {
		timeoutMs: duration({
			doc: 'The longest that a task may run.',
			default: 30 * 86_400_000,
			min: 1,
			max: 30 * 86_400_000,
		}),
		outputBytes: bytes({ doc: 'The most output kept of a task.', default: 1024 ** 3, min: 4096, max: 1024 ** 3 }),
		memoryBytes: optional(bytes({ doc: 'Memory of a task.', min: 1024 ** 2, max: 1024 ** 5 })),
		processes: optional(int({ doc: 'Processes of a task.', min: 1, max: 4_194_304 })),
		openFiles: optional(int({ doc: 'Open files of a process.', min: 16, max: 1_073_741_816 })),
		cpuSeconds: optional(int({ doc: 'CPU time of a process.', min: 1, max: 4_294_967_295, unit: 's' })),
		cpuMilli: optional(int({ doc: 'Thousandths of a core of a task.', min: 10, max: 4_294_967_295 })),
	},
	bundle: {
		parts: list({
			doc: 'What a diagnostic bundle may hold.',
			default: [],
			pattern: oneOfThese(BUNDLE_PARTS),
			expects: `some of ${BUNDLE_PARTS.join(', ')}`,
		}),
		user: optional(
			string({ doc: 'The account that collects it; must be in run.users.', pattern: USER, expects: 'an account name' }),
		),
	},
	terminal: {
		modes: list({
			doc: 'What people may open here: a login shell, single commands, copies of files, forwarded ports.',
			default: [],
			pattern: oneOfThese(TERMINAL_MODES),
			expects: `some of ${TERMINAL_MODES.join(', ')}`,
		}),
		users: list({ doc: 'Local accounts that people may be.', default: [], pattern: USER, expects: 'account names' }),
		defaultUser: optional(
			string({
				doc: 'For a terminal that names no account; must be in `users`.',
				pattern: USER,
				expects: 'an account name',
			}),
		),
		root: bool({
			doc: 'Whether root may be among them. Without it root is refused even where `users` names it.',
			default: false,
		}),
		shells: list({
			doc: 'Login shells that may be started: absolute paths, * and ** as in run.binaries.',
			default: [],
			pattern: /^\/[^\0]*$/,
			expects: 'absolute paths',
		}),
		defaultShell: optional(
			string({
				doc: "In place of the accounts' own; must be among `shells`. For accounts whose own lets nobody in.",
				pattern: /^\/[^\0]*$/,
				expects: 'an absolute path',
			}),
		),
		binaries: list({
			doc: 'Programs that single commands may start; as run.binaries.',
			default: [],
			pattern: /^\/[^\0]*$/,
			expects: 'absolute paths',
		}),
		env: list({
			doc: 'Variables that a person may bring along; others are left out. As run.env.',
			default: ['TERM', 'COLORTERM', 'LANG', 'LC_*'],
			pattern: ENV_GLOB,
			expects: 'names of variables',
		}),
		path: string({
			doc: 'PATH of terminals, and where a command that is named without a folder is looked for.',
			default: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
			pattern: /^\/[^\0:]*(:\/[^\0:]*)*$/,
			expects: 'absolute folders with colons between them',
		}),
	},
	files: {
		read: bool({ doc: 'Whether people may copy files from here that their account may read.', default: false }),
		write: bool({ doc: 'Whether people may copy files to where their account may write.', default: false }),
		freeFloorBytes: bytes({
			doc: 'Free space that a copy leaves on the file system that it writes to.',
			default: 1024 ** 3,
			min: 0,
			max: 1024 ** 5,
		}),
	},
	forward: {
		own: bool({
			doc: 'Whether people may reach ports on loopback that their own account listens on.',
			default: false,
		}),
		allow: list({
			doc: 'What else may be reached from here: host:port. The host is an address, a range in CIDR form, a name, *.suffix, or [IPv6]; the port a number, a range or *. Never link-local addresses, routers, or gateways of the control plane.',
			default: [],
			pattern: /^\S+:\S+$/,
			expects: 'host:port items',
		}),
		never: list({
			doc: 'Addresses and ranges that stay closed whatever `allow` says: networks of provisioning and BMCs.',
			default: [],
			pattern: /^[0-9a-fA-F.:/]+$/,
			expects: 'addresses and ranges',
		}),
	},
	devices: {
		isolation: oneOf(['required', 'preferred', 'off'], {
			doc: 'Whether what runs under an assignment opens only the devices listed here. required: without the means for it nothing is started; preferred: without them it is started unheld; off: for hosts that are the tenants own.',
			default: 'required',
		}),
		platform: bool({ doc: 'Whether what runs under no assignment is held to the same devices.', default: false }),
		gpus: bool({ doc: 'The GPUs of this node and their MIG instances.', default: true }),
		imex: bool({ doc: 'Channels of IMEX, for memory of GPUs across hosts.', default: false }),
		infiniband: bool({ doc: 'RDMA (uverbs, rdma_cm), not the management of ports.', default: false }),
		fuse: bool({ doc: 'File systems of programs (/dev/fuse).', default: false }),
		allow: list({
			doc: 'Further device files; * in the last name. The console stays closed.',
			default: [],
			pattern: /^\/dev\/(?!.*\.\.)[^\0*]*[^\0/]+$/,
			expects: 'paths below /dev',
		}),
	},
	reboot: { allowed: bool({ doc: 'Whether a task may restart this machine.', default: false }) },
} as const;

export type Policy = ConfigOf<typeof SCHEMA>;

/** Throws CONFIG_INVALID with every problem and its place. */
export function parsePolicy(text: string, path: string): Policy {
	const policy = loadConfig(SCHEMA, { file: { path, text } }).values;
	checkForward(policy.forward, path);
	return policy;
}

/** What a pattern is, is more than a regular expression tells. */
function checkForward({ allow, never }: Policy['forward'], path: string): void {
	const wrong = [
		...allow.filter((text) => parsePattern(text) === undefined).map((text) => `forward.allow: ${text} is no host:port`),
		...never.filter((text) => !isRange(text)).map((text) => `forward.never: ${text} is no address or range`),
	];
	if (wrong.length === 0) return;
	throw new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'CONFIG_INVALID',
		message: `${path}: ${wrong.join('; ')}`,
	});
}

/** What is allowed where there is no file: nothing. */
export const DENY_ALL: Policy = loadConfig(SCHEMA, {}).values;

/** What `gpuaas up` writes for the machine that tries the product out: any program, as the person who started it. */
export function demoPolicy(user: string): string {
	return `# What this host does for its control plane. Only this file decides; the control plane can't widen it.
# Written by \`gpuaas up\` for trying out: any program, as ${user} and nobody else, and no reboot.
[tasks]
kinds = ["run", "collect_bundle"]

[run]
users = ["${user}"]
default_user = "${user}"
binaries = ["/**"]
# Not what makes loaders and interpreters run other code, such as LD_PRELOAD: that is listed by its exact name.
env = ["*"]

[terminal]
modes = ["shell", "exec", "copy", "forward"]
users = ["${user}"]
default_user = "${user}"
root = ${user === 'root'}
${user === 'nobody' ? '# The account has no shell of its own.\ndefault_shell = "/bin/bash"\n' : ''}shells = ["/**"]
binaries = ["/**"]

[files]
read = true
write = true

[forward]
own = true

# Disks, kernel memory and the like stay closed to tenants; where this host can't hold them to that, they run all the same.
[devices]
isolation = "preferred"

[bundle]
parts = ["agent", "kernel", "processes", "network", "disks"]
user = "${user}"

[reboot]
allowed = false
`;
}
