import { resolve } from 'node:path';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import type { CollectBundleSpec, ResourceLimits, RunSpec, TaskSpec } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import type { InjectedFault } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { BUNDLE_PARTS, type BundlePart, type Policy } from './policy.ts';
import { judgeEnv } from './policy-env.ts';

/**
 * Judges a task by the node's own policy. A program is judged by the path that was asked for and by what that path leads
 * to when the task is judged; whoever may write in a permitted folder can still put another program there between this
 * moment and the start, so permit folders that only root can write to.
 */
export type PolicyRefusal =
	| 'POLICY_KIND'
	| 'POLICY_USER'
	| 'POLICY_BINARY'
	| 'POLICY_ENV'
	| 'POLICY_LIMIT'
	| 'COMMAND_NOT_FOUND';

/** What may be started, with every default filled in. */
export type Permit =
	| {
			readonly kind: 'run';
			readonly argv: readonly string[];
			readonly user: string;
			/** Empty: the user's home. */
			readonly cwd: string;
			readonly env: Readonly<Record<string, string>>;
			readonly limits: Ceilings;
	  }
	| { readonly kind: 'collect_bundle'; readonly parts: readonly BundlePart[]; readonly user: string }
	| { readonly kind: 'reboot'; readonly reason: string }
	| { readonly kind: 'inject_fault'; readonly faults: readonly InjectedFault[]; readonly endsAtMs: number };

export type Ceilings = {
	readonly [Key in 'memoryBytes' | 'processes' | 'openFiles' | 'cpuSeconds' | 'cpuMilli']?: number;
};

export type Decision =
	| { readonly kind: 'permit'; readonly permit: Permit; readonly timeoutMs: number; readonly outputBytesMax: number }
	| { readonly kind: 'refuse'; readonly reason: PolicyRefusal; readonly message: string };

export interface Request {
	readonly spec: TaskSpec;
	/** Undefined: as long as the policy lets it. */
	readonly timeoutMs: number | undefined;
	/** 0: as much as the policy keeps. */
	readonly outputBytesMax: number;
}

function refuse(reason: PolicyRefusal, message: string): Decision {
	return { kind: 'refuse', reason, message: `${message}; nothing was started. The node's policy file decides` };
}

/** Looks at this host's disk. */
export interface Programs {
	/** Whether this path is a program that somebody may start. */
	readonly isExecutable: (path: string) => boolean;
	/** The path without symbolic links; undefined when nothing is there or the agent may not look. */
	readonly realPath: (path: string) => string | undefined;
}

export function decide(policy: Policy, request: Request, programs: Programs): Decision {
	const { limits } = policy;
	const timeoutMs = request.timeoutMs ?? limits.timeoutMs;
	if (timeoutMs > limits.timeoutMs)
		return refuse(
			'POLICY_LIMIT',
			`the task asks for ${timeoutMs} ms and the node lets tasks run ${limits.timeoutMs} ms`,
		);
	const outputBytesMax = request.outputBytesMax === 0 ? limits.outputBytes : request.outputBytesMax;
	if (outputBytesMax > limits.outputBytes)
		return refuse(
			'POLICY_LIMIT',
			`the task asks for ${outputBytesMax} bytes of output and the node keeps ${limits.outputBytes}`,
		);
	const found = permitOf(policy, request.spec, programs);
	return 'permit' in found ? { kind: 'permit', permit: found.permit, timeoutMs, outputBytesMax } : found;
}

const KIND_NAMES: Readonly<Record<string, string>> = { collectBundle: 'collect_bundle', injectFault: 'inject_fault' };

type Found = { readonly permit: Permit } | Extract<Decision, { readonly kind: 'refuse' }> | Decision;

function permitOf(policy: Policy, spec: TaskSpec, programs: Programs): Found {
	const { kind } = spec;
	const name = KIND_NAMES[kind.case ?? ''] ?? kind.case ?? 'none';
	if (!policy.tasks.kinds.includes(name)) return refuse('POLICY_KIND', `this node takes no task of kind ${name}`);
	switch (kind.case) {
		case 'run':
			return run(policy, kind.value, programs);
		case 'collectBundle':
			return bundle(policy, kind.value);
		case 'reboot':
			return policy.reboot.allowed
				? { permit: { kind: 'reboot', reason: kind.value.reason } }
				: refuse('POLICY_KIND', 'this node is not restarted by tasks (reboot.allowed)');
		case 'injectFault': {
			const { faults, endsAt } = kind.value;
			return { permit: { kind: 'inject_fault', faults, endsAtMs: endsAt === undefined ? 0 : timestampMs(endsAt) } };
		}
		default:
			return refuse('POLICY_KIND', 'this agent knows no such kind of task');
	}
}

function run(policy: Policy, spec: RunSpec, programs: Programs): Found {
	const user = spec.user === '' ? policy.run.defaultUser : spec.user;
	if (user === undefined || !policy.run.users.includes(user))
		return refuse('POLICY_USER', `tasks don't run as ${user ?? 'nobody in particular'} on this node (run.users)`);
	const { binaries, path: folders } = policy.run;
	const path = programPath(folders, spec, programs.isExecutable);
	if (path === undefined) return refuse('COMMAND_NOT_FOUND', `there is no program ${spec.argv[0]} in ${folders}`);
	const misfit = misfitOf({ globs: binaries, setting: 'run.binaries' }, path, programs);
	if (misfit !== undefined) return refuse(misfit.reason, misfit.message);
	const judged = judgeEnv(policy.run.env, policy.run.path, spec.env);
	if (judged.kind === 'refused') return refuse('POLICY_ENV', judged.message);
	const limits = limitsOf(policy.limits, spec.limits);
	if (typeof limits === 'string') return refuse('POLICY_LIMIT', limits);
	const argv = [path, ...spec.argv.slice(1)];
	return { permit: { kind: 'run', argv, user, cwd: spec.cwd, env: judged.env, limits } };
}

export interface Misfit {
	readonly reason: 'POLICY_BINARY' | 'COMMAND_NOT_FOUND';
	readonly message: string;
}

/** Both the path that was asked for and the file that it leads to must be permitted. */
export function misfitOf(
	permitted: { readonly globs: readonly string[]; readonly setting: string },
	path: string,
	{ realPath }: Programs,
): Misfit | undefined {
	const isPermitted = (asked: string) => permitted.globs.some((glob) => globMatches(glob, asked));
	if (!isPermitted(path))
		return {
			reason: 'POLICY_BINARY',
			message: `${path} is not among the programs of this node (${permitted.setting})`,
		};
	const real = realPath(path);
	if (real === undefined)
		return {
			reason: 'COMMAND_NOT_FOUND',
			message: `there is no program ${path}, or the agent can't see what it leads to`,
		};
	if (isPermitted(real)) return undefined;
	return {
		reason: 'POLICY_BINARY',
		message: `${path} leads to ${real}, which is not among the programs of this node (${permitted.setting} must permit both)`,
	};
}

/** Absolute and without `..`; undefined when the search in `folders` found nothing. */
export function programPath(
	folders: string,
	{ argv, cwd }: { readonly argv: readonly string[]; readonly cwd: string },
	isExecutable: (path: string) => boolean,
): string | undefined {
	const [program = ''] = argv;
	if (program.includes('/')) return resolve(cwd === '' ? '/' : cwd, program);
	if (program === '') return undefined;
	return folders
		.split(':')
		.map((folder) => resolve(folder, program))
		.find(isExecutable);
}

const NAMES = {
	memoryBytes: 'memory',
	processes: 'processes',
	openFiles: 'open_files',
	cpuSeconds: 'cpu_seconds',
	cpuMilli: 'cpu_milli',
} as const;

/** What the task asks for, else the node's ceiling; a sentence when it asks for more. */
function limitsOf(ceilings: Policy['limits'], asked: ResourceLimits | undefined): Ceilings | string {
	const limits: Record<string, number> = {};
	for (const [key, name] of Object.entries(NAMES) as [keyof typeof NAMES, string][]) {
		const wanted = Number(asked?.[key] ?? 0);
		const ceiling = ceilings[key];
		if (ceiling !== undefined && wanted > ceiling)
			return `the task asks for ${name} ${wanted} and the node gives ${ceiling}`;
		const value = wanted === 0 ? ceiling : wanted;
		if (value !== undefined) limits[key] = value;
	}
	return limits;
}

function bundle(policy: Policy, spec: CollectBundleSpec): Found {
	const { user, parts } = policy.bundle;
	if (user === undefined || !policy.run.users.includes(user))
		return refuse('POLICY_USER', 'no account collects bundles on this node (bundle.user)');
	const wanted = spec.parts.length === 0 ? parts : spec.parts;
	const missing = wanted.find((part) => !parts.includes(part));
	if (missing !== undefined || wanted.length === 0)
		return refuse('POLICY_KIND', `bundles of this node hold no ${missing ?? 'part at all'} (bundle.parts)`);
	return { permit: { kind: 'collect_bundle', parts: BUNDLE_PARTS.filter((part) => wanted.includes(part)), user } };
}

/** `*` matches within one name, `**` anything. Everything else stands for itself. */
export function globMatches(glob: string, path: string): boolean {
	const pattern = glob
		.split(/(\*\*|\*)/)
		.map((piece) => (piece === '**' ? '.*' : piece === '*' ? '[^/]*' : piece.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')))
		.join('');
	return new RegExp(`^${pattern}$`, 's').test(path);
}
