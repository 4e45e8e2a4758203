/**
 * Node options that a child program of ours needs to load its files: the type stripper of a package that was installed
 * without its `dist` (packaging/strip-types.js). Empty in a checkout and in a built package. Put before the program's path.
 */
export function loaderArgs(execArgv: readonly string[] = process.execArgv): string[] {
	const at = execArgv.findIndex(
		(argument, index) => argument === '--import' && execArgv[index + 1]?.endsWith('/packaging/strip-types.js'),
	);
	return at < 0 ? [] : ['--disable-warning=ExperimentalWarning', ...execArgv.slice(at, at + 2)];
}
