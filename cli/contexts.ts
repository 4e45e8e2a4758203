import { chmod, mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { GpuaasError } from '../kit/error.ts';
import type { Io } from './io.ts';

/** A control plane that this person uses. The key is here because nothing else on the machine may hold it. */
export interface Context {
	/** `https://host:port`. */
	readonly address: string;
	/** PEM of the roots that its certificate must chain to. */
	readonly caPem: string;
	/** API key. */
	readonly key: string;
	/** The data folder, when `up` made it. */
	readonly data?: string;
}

export interface Contexts {
	readonly current: string;
	readonly contexts: Readonly<Record<string, Context>>;
}

/** `$GPUAAS_CONFIG_DIR`, else `$XDG_CONFIG_HOME/gpuaas`, else `~/.config/gpuaas`. */
export function configDir(io: Pick<Io, 'env'>): string {
	const own = io.env.GPUAAS_CONFIG_DIR;
	if (own !== undefined && own !== '') return own;
	const xdg = io.env.XDG_CONFIG_HOME;
	return join(xdg !== undefined && xdg !== '' ? xdg : join(homedir(), '.config'), 'gpuaas');
}

export async function readContexts(io: Pick<Io, 'env'>): Promise<Contexts> {
	const path = join(configDir(io), 'contexts.json');
	let text: string;
	try {
		text = await readFile(path, 'utf8');
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { current: '', contexts: {} };
		throw error;
	}
	try {
		const parsed = JSON.parse(text) as Contexts;
		if (typeof parsed.current === 'string' && typeof parsed.contexts === 'object') return parsed;
	} catch {
		// Falls through to the one message.
	}
	throw new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'CONFIG_INVALID',
		message: `${path} is damaged; move it away and log in again (gpuaas login, or gpuaas up)`,
	});
}

/** Whole or not at all, readable by its owner alone. */
export async function writeContexts(io: Pick<Io, 'env'>, contexts: Contexts): Promise<void> {
	const dir = configDir(io);
	await mkdir(dir, { recursive: true, mode: 0o700 });
	const path = join(dir, 'contexts.json');
	const temporary = `${path}.${process.pid}.tmp`;
	try {
		const file = await open(temporary, 'w', 0o600);
		try {
			await file.writeFile(`${JSON.stringify(contexts, null, 2)}\n`);
			await file.sync();
		} finally {
			await file.close();
		}
		await chmod(temporary, 0o600);
		await rename(temporary, path);
	} finally {
		await rm(temporary, { force: true });
	}
}

export async function putContext(io: Pick<Io, 'env'>, name: string, context: Context): Promise<void> {
	const { contexts } = await readContexts(io);
	await writeContexts(io, { current: name, contexts: { ...contexts, [name]: context } });
}

/** The named context, else `$GPUAAS_CONTEXT`, else the current one. */
export async function pickContext(
	io: Pick<Io, 'env'>,
	name: string | undefined,
): Promise<Context & { readonly name: string }> {
	const { current, contexts } = await readContexts(io);
	const wanted = name ?? (io.env.GPUAAS_CONTEXT || current);
	const context = contexts[wanted];
	if (context !== undefined) return { ...context, name: wanted };
	const known = Object.keys(contexts);
	throw new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'CONFIG_INVALID',
		message:
			known.length === 0
				? 'no control plane is known here; start one with: gpuaas up, or name one with: gpuaas login'
				: `there is no context ${JSON.stringify(wanted)}; known: ${known.join(', ')}; choose with: gpuaas context use NAME`,
	});
}
