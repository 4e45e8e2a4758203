import { type Arguments, type Command, take, usageError } from '../command.ts';
import { becomeDaemon } from '../daemon.ts';

export function configFlags(args: Arguments, sets: Readonly<Record<string, string | undefined>>): string[] {
	const config = args.text('config');
	const argv = config === undefined ? [] : ['--config', config];
	for (const [key, value] of Object.entries(sets)) if (value !== undefined) argv.push('--set', `${key}=${value}`);
	for (const pair of args.texts('set')) argv.push('--set', pair);
	if (args.flag('print-config')) argv.push('--print-config');
	if (args.flag('json')) argv.push('--json');
	return argv;
}

export const CONFIG_OPTIONS = {
	config: { type: 'string', value: 'FILE', help: 'Configuration file (TOML)' },
	data: { type: 'string', value: 'DIR', help: 'Data folder' },
	set: { type: 'string', multiple: true, value: 'SECTION.KEY=V', help: 'Override one setting; may be repeated' },
	'print-config': {
		type: 'boolean',
		help: 'Print the effective configuration with the source of each value, and stop',
	},
} as const;

/** Throws for one with a password: every user of this machine can read a command line. */
export function storeUrl(command: Command, args: Arguments): string | undefined {
	const url = args.text('store');
	if (url === undefined || !/^[a-z]+:\/\/[^/@]*:[^/@]*@/.test(url)) return url;
	throw usageError(
		command,
		'--store has a password, which every user of this machine can read; put it into the config file ([store] url) or ~/.pgpass',
	);
}

const serve: Command = {
	name: 'control-plane serve',
	isLocal: true,
	summary: 'Run the control plane in the foreground',
	description:
		'SIGTERM drains: streams are told to come back, requests end, the store closes. Logs go to standard error.',
	options: {
		...CONFIG_OPTIONS,
		store: {
			type: 'string',
			value: 'URL',
			help: 'postgres://user@host/database or a file; passwords go into the config file or ~/.pgpass',
		},
	},
	examples: [
		['gpuaas control-plane serve --config /etc/gpuaas/control-plane.toml', 'As the unit in packaging/ does'],
		['gpuaas control-plane serve --data ./cp --print-config', 'What would be used, and why'],
	],
	async run(args) {
		take(serve, args);
		const store = storeUrl(serve, args);
		return becomeDaemon('control-plane', configFlags(args, { 'core.data': args.text('data'), 'store.url': store }));
	},
};

export const commands: readonly Command[] = [serve];
