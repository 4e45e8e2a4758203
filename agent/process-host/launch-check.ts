/** What can be refused before anything happens: the shape of a request, its sizes, its command and its directory. */
import { type Stats, statSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { confinementFault } from '../platform/device-rules.ts';
import type { LaunchLimits, LaunchRefusal, LaunchRequest, TaskKey } from '../tasks/process-host.ts';
import { lookAsAnybody } from './anybody.ts';
import * as bounds from './limits.ts';

export interface Refusal {
	readonly kind: 'REFUSED';
	readonly reason: LaunchRefusal;
	readonly message: string;
}

export function refuse(reason: LaunchRefusal, message: string): Refusal {
	return { kind: 'REFUSED', reason, message };
}

export function shuttingDown(): Refusal {
	return refuse('SHUTTING_DOWN', 'the process host is ending; start it again and retry');
}

/** It is to be held to a list of devices, and nothing on this host can. */
export function devicesOpen(): Refusal {
	return refuse(
		'DEVICE_ISOLATION_UNAVAILABLE',
		'this host can hold no program to a list of devices: it needs root, and eBPF on cgroup v2 or the devices controller of cgroup v1; nothing was started',
	);
}

/** This host can, and didn't this time. */
export function devicesUnheld(why: string): Refusal {
	const message = `its devices could not be put in force: ${why}; nothing was started`;
	return refuse('DEVICE_ISOLATION_UNAVAILABLE', message);
}

const TASK_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const USER = /^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}\$?$/;

/** Least values with which the exec wrappers themselves still run, and the most that the kernel takes. */
const LIMIT_RANGE: Readonly<Record<keyof LaunchLimits, readonly [number, number]>> = {
	cpuSeconds: [1, 2 ** 31],
	addressSpaceBytes: [16 << 20, Number.MAX_SAFE_INTEGER],
	openFiles: [8, 1 << 20],
	processes: [1, 1 << 22],
	memoryBytes: [16 << 20, Number.MAX_SAFE_INTEGER],
	cpuQuota: [0.01, 4096],
};

function isText(value: unknown): value is string {
	return typeof value === 'string' && !value.includes('\0');
}

function isInteger(value: unknown, min: number, max: number): value is number {
	return Number.isSafeInteger(value) && Number(value) >= min && Number(value) <= max;
}

export function isTaskKey(value: Partial<TaskKey>): value is TaskKey {
	return typeof value.taskId === 'string' && TASK_ID.test(value.taskId) && isInteger(value.attempt, 0, 2 ** 31);
}

function checkLimits(limits: LaunchLimits): string | undefined {
	for (const [name, value] of Object.entries(limits)) {
		const range = LIMIT_RANGE[name as keyof LaunchLimits];
		if (range === undefined) return `limits.${name} is not a limit`;
		if (typeof value !== 'number' || !(value >= range[0] && value <= range[1])) {
			return `limits.${name} must be from ${range[0]} to ${range[1]}`;
		}
		if (name !== 'cpuQuota' && !Number.isInteger(value)) return `limits.${name} must be an integer`;
	}
	return undefined;
}

function checkShape(request: LaunchRequest): string | undefined {
	if (!isTaskKey(request)) return 'taskId or attempt is malformed';
	const { argv, env, cwd, user, umask, limits, stdin } = request;
	if (!Array.isArray(argv) || argv.length === 0 || !argv.every(isText) || argv[0] === '') {
		return 'argv must be strings without NUL, the first not empty';
	}
	// env(1) would take it for a variable.
	if (argv[0]?.includes('=')) return 'a command must not have = in its name';
	if (typeof env !== 'object' || env === null) return 'env must be an object';
	for (const [name, value] of Object.entries(env)) {
		if (name === '' || name.includes('=') || !isText(name) || !isText(value)) return 'env has a malformed entry';
	}
	if (!isText(cwd) || !isAbsolute(cwd)) return 'cwd must be an absolute path';
	if (user !== undefined && (typeof user !== 'string' || !USER.test(user))) return 'user is not a unix user name';
	if (umask !== undefined && !isInteger(umask, 0, 0o777)) return 'umask must be from 0 to 0777';
	if (!isInteger(request.timeoutMs, 1, bounds.timeoutMsMax))
		return `timeoutMs must be from 1 to ${bounds.timeoutMsMax}`;
	if (!isInteger(request.graceMs, 0, bounds.graceMsMax)) return `graceMs must be from 0 to ${bounds.graceMsMax}`;
	if (!isInteger(request.outputCapBytes, bounds.outputCapBytesMin, bounds.outputCapBytesMax)) {
		return `outputCapBytes must be from ${bounds.outputCapBytesMin} to ${bounds.outputCapBytesMax}`;
	}
	if (stdin !== undefined && stdin.length > bounds.stdinBytesMax) return `stdin is over ${bounds.stdinBytesMax} bytes`;
	if (request.confine !== undefined) {
		const fault = confinementFault(request.confine);
		if (fault !== undefined) return fault;
	}
	return limits === undefined ? undefined : checkLimits(limits);
}

/** The kernel's two bounds on exec (execve(2), "Limits on size of arguments and environment"). */
function argumentsTooLarge(request: LaunchRequest): boolean {
	let total = 0;
	const count = (text: string) => {
		const bytes = Buffer.byteLength(text) + 1;
		total += bytes + 8;
		return bytes > bounds.argumentBytesMax;
	};
	if (request.argv.some(count)) return true;
	// One byte more for the `=`.
	if (Object.entries(request.env).some(([name, value]) => count(`${name}=${value}`))) return true;
	return total > bounds.argumentsBytesMax;
}

type Look = typeof lookAsAnybody;

/** Our own account is told what we see, another what everybody may see. */
function lookFor({ user }: LaunchRequest): Look {
	return user === undefined || user === 'root' || process.getuid?.() !== 0 ? lookAsOurselves : lookAsAnybody;
}

/** Missing also where we may not look: execvp passes over such an entry too. */
function lookAsOurselves(path: string): Stats | 'MISSING' {
	try {
		return statSync(path);
	} catch {
		return 'MISSING';
	}
}

/** Finds the command as execvp(3) will: a name with a slash is a path from cwd, others are looked up in the task's PATH. */
function checkCommand(request: LaunchRequest, look: Look): Refusal | undefined {
	const command = request.argv[0] ?? '';
	const folders = command.includes('/') ? [''] : (request.env.PATH ?? '/bin:/usr/bin').split(':');
	let found: string | undefined;
	for (const folder of folders) {
		const path = join(isAbsolute(folder) || command.startsWith('/') ? '' : request.cwd, folder, command);
		const stat = look(path);
		if (stat === 'MISSING') continue;
		// It may be there: exit code 126 or 127 when it isn't.
		if (stat === 'HIDDEN') return undefined;
		found ??= path;
		// Whether this user may execute it is the kernel's to say (modes, ACLs): exit code 126 then.
		if (stat.isFile() && (stat.mode & 0o111) !== 0) return undefined;
	}
	if (found !== undefined) {
		return refuse('COMMAND_NOT_EXECUTABLE', `${found} is not an executable file; nothing was started`);
	}
	const where = command.includes('/') ? 'at that path' : 'in the PATH of the task';
	return refuse('COMMAND_NOT_FOUND', `there is no ${command} ${where}; nothing was started`);
}

/** Whether this user may enter it is again the kernel's to say: env(1) then ends with 125 and says why. */
function checkDirectory(cwd: string, look: Look): Refusal | undefined {
	const stat = look(cwd);
	if (stat === 'MISSING') return refuse('CWD_MISSING', `there is no working directory ${cwd}; nothing was started`);
	if (stat === 'HIDDEN' || stat.isDirectory()) return undefined;
	return refuse('CWD_MISSING', `${cwd} is not a directory; nothing was started`);
}

/** What is refused before anything happens, in whatever host. */
export function checkLaunch(request: LaunchRequest): Refusal | undefined {
	const malformed = checkShape(request);
	if (malformed !== undefined) return refuse('INVALID_REQUEST', `${malformed}; correct the request`);
	if (argumentsTooLarge(request)) {
		return refuse(
			'ARGUMENTS_TOO_LARGE',
			'argv and env together exceed what exec takes; pass the bulk on stdin or in a file',
		);
	}
	const look = lookFor(request);
	return checkDirectory(request.cwd, look) ?? checkCommand(request, look);
}
