import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { TerminalsWorld } from './terminals-world.ts';

/**
 * The whole product on a host that is as the test wants it: accounts with groups and shells of their own, few
 * pseudo-terminals, a small disk for recordings. In a mount namespace of its own; nothing of the machine is touched.
 */
export interface CraftedHost {
	/** Lines of passwd(5) and group(5), beside the machine's own. */
	readonly passwd?: readonly string[];
	readonly group?: readonly string[];
	readonly ptsMax?: number;
	/** Of the file system that recordings are kept on. */
	readonly recordingsMb?: number;
	/** `agent.policy.toml`. */
	readonly policy: string;
}

/** Ids that no account of a machine has, nor another test that runs beside this one: the kernel counts processes per id. */
const ID = 50_000 + 4 * (process.pid % 2_000);
export const TESTER = { name: 'gpuaas-tester', uid: ID, gid: ID, groups: [ID + 1, ID + 2] } as const;

/** Another account of that host, for its line of passwd(5). */
export const OTHER_UID = ID + 3;

export const TESTER_LINES = {
	passwd: [`${TESTER.name}:x:${TESTER.uid}:${TESTER.gid}::/tmp:/bin/bash`],
	group: [
		`${TESTER.name}:x:${TESTER.gid}:`,
		...TESTER.groups.map((gid, index) => `gpuaas-group-${index}:x:${gid}:${TESTER.name}`),
	],
} as const;

export function policyOf(users: readonly string[], more = ''): string {
	const list = JSON.stringify(users);
	return `[tasks]
kinds = ["run"]
[run]
users = ${list}
default_user = ${JSON.stringify(users[0])}
binaries = ["/**"]
[terminal]
modes = ["shell", "exec", "copy", "forward"]
users = ${list}
default_user = ${JSON.stringify(users[0])}
shells = ["/**"]
binaries = ["/**"]
[files]
read = true
write = true
[forward]
own = true
${more}`;
}

export async function startCrafted(host: CraftedHost): Promise<TerminalsWorld> {
	return await TerminalsWorld.start((world) => {
		const { root, data } = world.up;
		mkdirSync(data, { mode: 0o700 });
		writeFileSync(join(data, 'agent.policy.toml'), host.policy);
		const steps = ['set -e'];
		for (const name of ['passwd', 'group'] as const) {
			const path = join(root, name);
			copyFileSync(`/etc/${name}`, path);
			writeFileSync(path, `${readFileSync(path, 'utf8')}${(host[name] ?? []).join('\n')}\n`);
			steps.push(`mount --bind ${path} /etc/${name}`);
		}
		if (host.ptsMax !== undefined)
			steps.push(
				`mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5,max=${host.ptsMax} devpts /dev/pts`,
				'mount --bind /dev/pts/ptmx /dev/ptmx',
			);
		if (host.recordingsMb !== undefined) {
			const folder = join(data, 'control-plane/recordings');
			mkdirSync(folder, { recursive: true, mode: 0o700 });
			steps.push(`mount -t tmpfs -o size=${host.recordingsMb}m,mode=0700 none ${folder}`);
		}
		return ['unshare', '--mount', '/bin/sh', '-c', `${steps.join('\n')}\nexec "$@"`, 'crafted'];
	});
}
