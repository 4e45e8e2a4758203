/**
 * Loads this package's own `.ts` files from under node_modules, where Node refuses to strip types. Only for a tarball
 * that was packed without its `dist` (npm's `ignore-scripts` skips `prepack`); costs about 60 ms at start and 1 ms a file.
 * A child program needs it too: start it with `process.execArgv`.
 */
import { readFileSync } from 'node:fs';
import { registerHooks, stripTypeScriptTypes } from 'node:module';
import { fileURLToPath } from 'node:url';

const root = new URL('..', import.meta.url).href;

registerHooks({
	load(url, context, nextLoad) {
		const own = url.startsWith(root) && url.endsWith('.ts') && !url.slice(root.length).startsWith('node_modules/');
		if (!own) return nextLoad(url, context);
		const source = stripTypeScriptTypes(readFileSync(fileURLToPath(url), 'utf8'), { sourceUrl: url });
		return { format: 'module', source, shortCircuit: true };
	},
});
