import { appendFile, chmod, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { acquireDirectoryLock, readDirectoryLock } from '../../kit/directory-lock.ts';
import { GpuaasError } from '../../kit/error.ts';
import { type ProcessIdentity, processIdentity } from '../../kit/process-identity.ts';
import { completePorts, type Ports } from './ports.ts';

/**
 * The folder that one `up` works in: ports that stay the same, configuration of both daemons, their data, their logs,
 * and `up/`, which says which process runs it. Everything is made once and reused; nothing of a person's is changed.
 */
export interface DataFolder {
	readonly root: string;
	readonly ports: Ports;
	readonly controlPlaneConfig: string;
	readonly agentConfig: string;
	readonly operatorKey: string;
	readonly ca: string;
	readonly joinToken: string;
	log(name: string): string;
}

export async function openDataFolder(root: string, chosen: Partial<Ports>, policy: string): Promise<DataFolder> {
	await mkdir(join(root, 'logs'), { recursive: true, mode: 0o700 });
	await chmod(root, 0o700);
	const stored = await readPorts(root);
	const ports = await completePorts({ ...stored, ...chosen });
	await storePorts(root, ports);
	const folder = describe(root, ports);
	await replace(folder.controlPlaneConfig, controlPlaneToml(root, ports));
	await replace(folder.agentConfig, agentToml(root, ports));
	await writePolicy(join(root, 'agent.policy.toml'), policy);
	return folder;
}

export function describe(root: string, ports: Ports): DataFolder {
	return {
		root,
		ports,
		controlPlaneConfig: join(root, 'control-plane.toml'),
		agentConfig: join(root, 'agent.toml'),
		operatorKey: join(root, 'control-plane', 'operator.key'),
		ca: join(root, 'control-plane', 'ca.pem'),
		joinToken: join(root, 'join-token'),
		log: (name) => join(root, 'logs', `${name}.log`),
	};
}

export async function readPorts(root: string): Promise<Partial<Ports>> {
	try {
		return JSON.parse(await readFile(join(root, 'ports.json'), 'utf8')) as Partial<Ports>;
	} catch {
		return {};
	}
}

export function storePorts(root: string, ports: Partial<Ports>): Promise<void> {
	return replace(join(root, 'ports.json'), `${JSON.stringify(ports)}\n`);
}

/** TOML basic strings are JSON strings as far as paths go. */
function controlPlaneToml(root: string, ports: Ports): string {
	return `# Written by gpuaas up at each start.
[core]
data = ${JSON.stringify(join(root, 'control-plane'))}
[api]
port = ${ports.api}
[gateway]
port = ${ports.gateway}
[enroll]
port = ${ports.enroll}
[ops]
port = ${ports.ops}
`;
}

function agentToml(root: string, ports: Ports): string {
	return `# Written by gpuaas up at each start.
[core]
data = ${JSON.stringify(join(root, 'agent'))}
policy = ${JSON.stringify(join(root, 'agent.policy.toml'))}
[enroll]
address = "127.0.0.1:${ports.enroll}"
token_file = ${JSON.stringify(join(root, 'join-token'))}
[link]
gateways = ["127.0.0.1:${ports.gateway}"]
`;
}

async function replace(path: string, text: string): Promise<void> {
	const temporary = `${path}.${process.pid}.tmp`;
	await writeFile(temporary, text, { mode: 0o600 });
	await rename(temporary, path);
}

async function createOnce(path: string, text: string): Promise<void> {
	try {
		await writeFile(path, text, { mode: 0o644, flag: 'wx' });
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
	}
}

/** What an `up` wrote begins so (demoPolicy). */
const WRITTEN_BY_UP = '# Written by `gpuaas up`';
/** With the comment above it. */
const DEVICES_SECTION = /^(?:#.*\n)*\[devices\]\n(?:[^[\n].*\n)*/m;

/**
 * A file that was written before there were lists of devices says nothing of them, and then nothing of a tenant's would
 * start on a host that can't hold it to one: it gets what new files have. One that a person wrote stays as it is.
 */
async function writePolicy(path: string, policy: string): Promise<void> {
	await createOnce(path, policy);
	const present = await readFile(path, 'utf8');
	const [section] = DEVICES_SECTION.exec(policy) ?? [];
	if (section === undefined || !present.includes(WRITTEN_BY_UP) || /^\s*\[devices\]/m.test(present)) return;
	await appendFile(path, `\n# Added by \`gpuaas up\`, whose earlier releases knew no such section.\n${section}`);
}

/** For the join token: readable by its owner alone, whole or absent. */
export async function writeSecret(path: string, text: string): Promise<void> {
	const temporary = `${path}.${process.pid}.tmp`;
	await writeFile(temporary, text, { mode: 0o600 });
	await rename(temporary, path);
}

/** What an `up` writes down of itself while it runs. */
interface Started {
	readonly startedAt: string;
	/** As it was named (no password may be in it); undefined for SQLite in the data folder. */
	readonly store?: string | undefined;
}

export interface Running extends ProcessIdentity, Started {}

/** Numbered files; the highest names the process that runs the folder. */
const lockFolder = (root: string) => join(root, 'up');

/** Who runs this folder; undefined when nobody does. */
export async function whoRuns(root: string): Promise<Running | undefined> {
	try {
		const held = readDirectoryLock(lockFolder(root));
		if (held?.alive !== true) return undefined;
		return { ...held.lock, startedAt: held.lock.says?.startedAt ?? '', store: held.lock.says?.store };
	} catch {
		return undefined;
	}
}

/** Takes the folder for this process; undefined when another has it. The answer releases it. `instanceId`: of this start alone. */
export async function takeFolder(
	root: string,
	started: Started,
	instanceId: string,
): Promise<(() => void) | undefined> {
	await mkdir(lockFolder(root), { recursive: true, mode: 0o700 });
	const own = processIdentity(process.pid);
	if (own === undefined) {
		throw new GpuaasError({
			code: 'FAILED_PRECONDITION',
			reason: 'INTERNAL',
			message: '/proc is not mounted; gpuaas needs Linux with /proc',
		});
	}
	const { startedAt, store } = started;
	const says = { startedAt, ...(store === undefined ? {} : { store }) };
	const outcome = acquireDirectoryLock(lockFolder(root), { ...own, instanceId, says });
	return outcome.kind === 'ACQUIRED' ? outcome.release : undefined;
}

/** Where tasks of the demo run: never root. */
export function demoUser(): string {
	const { uid, username } = userInfo();
	if (uid !== 0) return username;
	const sudoUser = process.env.SUDO_USER;
	return sudoUser !== undefined && sudoUser !== '' && sudoUser !== 'root' ? sudoUser : 'nobody';
}
