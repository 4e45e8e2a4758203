/**
 * Which variables a task may bring (`run.env` of the local policy). A variable decides what a program does as much as
 * its path does: LD_PRELOAD or BASH_ENV turn any permitted program into any other. So nothing passes that isn't named,
 * and what is known to make loaders, interpreters and common tools run other code passes only by its exact name, never
 * by a glob, whatever `run.binaries` says. The list can't be complete: `*` says that the host trusts its senders to
 * that degree. Pure; called by policy.ts.
 */
const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;

/** What `run.env` may hold. */
export const ENV_GLOB = /^[A-Za-z_*][A-Za-z0-9_*]{0,127}$/;

const EXACT_ONLY = new RegExp(
	`^(${[
		// Dynamic loaders, libc and what it loads.
		'LD_.*|DYLD_.*|GCONV_PATH|LOCPATH|NLSPATH|HOSTALIASES|RESOLV_HOST_CONF|GLIBC_TUNABLES|MALLOC_.*',
		// Shells, and how programs find and start others.
		'PATH|SHELL|ENV|BASH_.*|BASHOPTS|SHELLOPTS|IFS|CDPATH|GLOBIGNORE|PS[0-4]|PROMPT_COMMAND|ZDOTDIR|FPATH',
		// Interpreters and virtual machines.
		'PERL.*|PYTHON.*|NODE_.*|NPM_.*|npm_.*|RUBY.*|GEM_.*|BUNDLE_.*|PHP.*|LUA_.*|TCLLIBPATH|R_.*|JULIA_.*|GUILE_.*',
		'CLASSPATH|JAVA_.*|_JAVA_OPTIONS|JDK_.*|DOTNET_.*|CORECLR_.*|COR_.*|ERL_.*|AWKPATH|AWKLIBPATH',
		// Tools that start what a variable names.
		'GIT_.*|SSH_.*|EDITOR|VISUAL|PAGER|MANPAGER|BROWSER|LESS.*|MAKEFLAGS|MAKEFILES|TAR_OPTIONS|RSYNC_.*|OPENSSL_.*',
		// Libraries of accelerators that load what a variable names.
		'CUDA_INJECTION.*|NVTX_INJECTION.*|NCCL_.*PLUGIN|OMPI_MCA_.*|UCX_.*|VK_.*|OCL_.*|OPENCL_.*',
		// Where programs look for files that make them run other programs, and what the agent says about the task.
		'HOME|USER|LOGNAME|XDG_.*|GPUAAS_.*',
	].join('|')})$`,
);

export type EnvVerdict =
	| { readonly kind: 'ok'; readonly env: Readonly<Record<string, string>> }
	/** The sentence names the variable and never its value, which may be a secret. */
	| { readonly kind: 'refused'; readonly message: string };

/** `path` is PATH of the task unless the policy names PATH: what a task says of it is left out, not refused. */
export function judgeEnv(
	allowed: readonly string[],
	path: string,
	asked: Readonly<Record<string, string>>,
): EnvVerdict {
	const env: [string, string][] = [['PATH', path]];
	for (const [name, value] of Object.entries(asked)) {
		if (name === 'PATH' && !allowed.includes(name)) continue;
		const refusal = refusalOf(allowed, name);
		if (refusal !== undefined) return { kind: 'refused', message: refusal };
		env.push([name, value]);
	}
	return { kind: 'ok', env: Object.fromEntries(env) };
}

/** What a person brings along, without what the policy doesn't let pass: a login is not refused for a variable. */
export function permittedEnv(
	allowed: readonly string[],
	asked: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
	return Object.fromEntries(Object.entries(asked).filter(([name]) => refusalOf(allowed, name) === undefined));
}

function refusalOf(allowed: readonly string[], name: string): string | undefined {
	// A name with '=' in it would set another variable than the one that was judged.
	if (!NAME.test(name))
		return `the task brings a variable whose name is not one (${JSON.stringify(name.slice(0, 32))})`;
	if (allowed.includes(name)) return undefined;
	if (EXACT_ONLY.test(name)) {
		return `the task sets ${name}, which can make a program run other code, so it passes only where the policy of the host lists it by its exact name (run.env)`;
	}
	if (allowed.some((glob) => nameMatches(glob, name))) return undefined;
	return `the task sets ${name}, which is not among the variables that the policy of the host lets tasks set (run.env)`;
}

/** Without a regular expression made of the glob: each star takes as little as it can. */
function nameMatches(glob: string, name: string): boolean {
	const pieces = glob.split('*');
	const [first = '', ...rest] = pieces;
	const last = rest.pop();
	if (last === undefined) return glob === name;
	if (!name.startsWith(first) || !name.endsWith(last)) return false;
	let at = first.length;
	for (const piece of rest) {
		const found = name.indexOf(piece, at);
		if (found < 0) return false;
		at = found + piece.length;
	}
	return at <= name.length - last.length;
}
