/** The state directory itself: private to one unix user, with the settings that its starter left in it. */
import { lstatSync, mkdirSync, readFileSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { GpuaasError } from '../../kit/error.ts';
import { configName, socketName } from './state.ts';

/** sockaddr_un.sun_path less its NUL. */
const SOCKET_PATH_BYTES_MAX = 107;

function unusable(message: string): GpuaasError {
	return new GpuaasError({ code: 'FAILED_PRECONDITION', reason: 'CONFIG_INVALID', message });
}

/** Makes the directory if need be and returns its real path; throws when others could get in. */
export function preparePrivateDirectory(directory: string): string {
	mkdirSync(directory, { recursive: true, mode: 0o700 });
	const real = realpathSync(directory);
	const stat = lstatSync(real);
	if (stat.uid !== process.geteuid?.() || (stat.mode & 0o077) !== 0) {
		throw unusable(
			`${real} must belong to the user of the process host, mode 0700: tasks are started through it; chmod it`,
		);
	}
	if (Buffer.byteLength(join(real, socketName)) > SOCKET_PATH_BYTES_MAX) {
		throw unusable(`${real} is too long for a unix socket; use a shorter state directory`);
	}
	return real;
}

/** The settings of the directory over the defaults; throws on what isn't a setting. */
export function readHostConfig<C extends { readonly cgroup: string }>(directory: string, defaults: Readonly<C>): C {
	let text: string;
	try {
		text = readFileSync(join(directory, configName), 'utf8');
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code === 'ENOENT') return defaults;
		throw error;
	}
	const given = JSON.parse(text) as Record<string, unknown>;
	for (const [name, value] of Object.entries(given)) {
		const isKnown = Object.hasOwn(defaults, name);
		const isValid = name === 'cgroup' ? ['auto', 'delegated', 'off'].includes(String(value)) : isCount(value);
		if (!isKnown || !isValid) throw unusable(`${configName}: ${name} is not a setting of this host, or out of range`);
	}
	return Object.freeze({ ...defaults, ...given });
}

function isCount(value: unknown): boolean {
	return Number.isSafeInteger(value) && Number(value) >= 0;
}
