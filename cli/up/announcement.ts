import { access, constants } from 'node:fs/promises';
import { basename, delimiter, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Io } from '../io.ts';
import type { DataFolder } from './data-folder.ts';

/** What `up` says once it is up: one screen of 24 lines, of which none that we write is wider than 80 columns. */
export interface Announced {
	readonly folder: Pick<DataFolder, 'root' | 'ports' | 'ca'>;
	readonly nodeName: string;
	/** How this command is called from where the person is. */
	readonly command: string;
	/** How the first task went; empty for whoever only attached. */
	readonly firstTask: string;
	readonly bold: (text: string) => string;
}

export function announcement({ folder, nodeName, command, firstTask, bold }: Announced): string {
	const { ports, root, ca } = folder;
	return [
		'',
		`${bold('GPUaaS is up.')} One control plane, one node: ${nodeName}.`,
		'',
		`  API         https://127.0.0.1:${ports.api}   (context local)`,
		`  roots       ${ca}`,
		`  metrics     http://127.0.0.1:${ports.ops}/metrics   (discovery: /sd/prometheus)`,
		`  data        ${root}   (logs in logs/)`,
		`  policy      ${join(root, 'agent.policy.toml')}   (what may run here)`,
		...(firstTask === '' ? [] : [`  first task  ${firstTask}`]),
		'',
		'Try, in another terminal:',
		`  ${command} run -- sh -c 'echo hi; exit 3'`,
		'      a program through the real path, with its exit code',
		`  ${command} shell ${nodeName}`,
		'      a login shell; ~? right after Enter lists what can be done',
		`  ${command} node why ${nodeName}`,
		'      what the control plane knows of this host',
		`  ${command} audit verify`,
		'      recompute the audit chain and compare it with its signed heads',
		'',
		firstTask === '' ? 'Ctrl-C detaches; everything goes on.' : 'Ctrl-C stops everything.',
		'',
	].join('\n');
}

/** The launcher of this very program: in the checkout, or beside the folder that it was built into. */
function ownLauncher(): string {
	const root = fileURLToPath(new URL('../..', import.meta.url));
	return join(basename(root) === 'dist' ? resolve(root, '..') : root, 'gpuaas');
}

/** What to type where the person is now: `./gpuaas` in the checkout, `gpuaas` where it is installed, else its path. */
export async function commandName({ cwd, env }: Pick<Io, 'cwd' | 'env'>, launcher = ownLauncher()): Promise<string> {
	if (join(cwd, 'gpuaas') === launcher) return './gpuaas';
	for (const folder of (env.PATH ?? '').split(delimiter)) {
		const isThere = access(join(folder, 'gpuaas'), constants.X_OK).then(
			() => true,
			() => false,
		);
		if (folder !== '' && (await isThere)) return 'gpuaas';
	}
	return launcher;
}
