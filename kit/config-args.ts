import { parseArgs } from 'node:util';
import { GpuaasError, messageOf } from './error.ts';

/** What a daemon takes on its command line: where its file is, single settings, and whether to only show the outcome. */
export interface DaemonArgs {
	readonly configPath: string | undefined;
	/** `section.key` -> text, in order of appearance. */
	readonly overrides: Readonly<Record<string, string>>;
	readonly printConfig: boolean;
	readonly json: boolean;
	readonly positionals: readonly string[];
}

/** Throws INVALID_ARGUMENT `CONFIG_INVALID` for anything that it doesn't know. */
export function parseDaemonArgs(argv: readonly string[]): DaemonArgs {
	try {
		const { values, positionals } = parseArgs({
			args: [...argv],
			options: {
				config: { type: 'string' },
				set: { type: 'string', multiple: true },
				'print-config': { type: 'boolean' },
				json: { type: 'boolean' },
			},
			allowPositionals: true,
			strict: true,
		});
		const overrides: Record<string, string> = {};
		for (const pair of values.set ?? []) {
			const at = pair.indexOf('=');
			if (at <= 0) throw new Error(`--set ${JSON.stringify(pair)} is not SECTION.KEY=VALUE`);
			overrides[pair.slice(0, at)] = pair.slice(at + 1);
		}
		return {
			configPath: values.config,
			overrides,
			printConfig: values['print-config'] ?? false,
			json: values.json ?? false,
			positionals,
		};
	} catch (error) {
		throw new GpuaasError({
			code: 'INVALID_ARGUMENT',
			reason: 'CONFIG_INVALID',
			message: `${messageOf(error)}; usage: [--config FILE] [--set SECTION.KEY=VALUE ...] [--print-config]`,
		});
	}
}
