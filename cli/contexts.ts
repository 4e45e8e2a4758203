import { chmod, mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { sleep } from '../kit/clock.ts';
import { GpuaasError } from '../kit/error.ts';
import type { Io } from './io.ts';
import type { StoredLogin } from './oidc/stored-login.ts';

/** A control plane that this person uses. Key or login are here because nothing else on the machine may hold them. */
export interface Context {
	/** `https://host:port`. */
	readonly address: string;
	/** PEM of the roots that its certificate must chain to. */
	readonly caPem: string;
	/** API key; empty with a login. */
	readonly key: string;
	/** At an identity provider. */
	readonly login?: StoredLogin;
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

/** Changes one context while no other command changes one, and returns what it became. */
export async function changeContext(
	io: Pick<Io, 'env' | 'clock'>,
	name: string,
	change: (context: Context) => Promise<Context>,
): Promise<Context> {
	await using _lock = await lockContexts(io);
	const { current, contexts } = await readContexts(io);
	const context = contexts[name];
	if (context === undefined) throw unknownContext(name, Object.keys(contexts));
	const changed = await change(context);
	if (changed !== context) await writeContexts(io, { current, contexts: { ...contexts, [name]: changed } });
	return changed;
}

/** A command that was killed leaves its lock; nothing that is done under it takes this long. */
const LOCK_AGE_MAX_MS = 60_000;
const LOCK_POLL_MS = 25;

async function lockContexts(io: Pick<Io, 'env' | 'clock'>): Promise<AsyncDisposable> {
	const path = join(configDir(io), 'contexts.lock');
	for (;;) {
		try {
			await (await open(path, 'wx', 0o600)).close();
			return { [Symbol.asyncDispose]: () => rm(path, { force: true }) };
		} catch (error) {
			if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
		}
		const made = await stat(path).catch(() => undefined);
		if (made !== undefined && io.clock.now() - made.mtimeMs > LOCK_AGE_MAX_MS) await rm(path, { force: true });
		else await sleep(io.clock, LOCK_POLL_MS);
	}
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
	throw unknownContext(wanted, Object.keys(contexts));
}

function unknownContext(wanted: string, known: readonly string[]): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'CONFIG_INVALID',
		message:
			known.length === 0
				? 'no control plane is known here; start one with: gpuaas up, or name one with: gpuaas login'
				: `there is no context ${JSON.stringify(wanted)}; known: ${known.join(', ')}; choose with: gpuaas context use NAME`,
	});
}
