import { ownVersion } from '../../kit/version.ts';
import type { Command } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { printJson, write } from '../io.ts';

const version: Command = {
	name: 'version',
	isLocal: true,
	summary: 'Print the version',
	examples: [
		['gpuaas version', 'The version of this program'],
		['gpuaas version --json', 'Also the Node that it runs on'],
	],
	async run(args, io) {
		const own = ownVersion(import.meta.url);
		if (args.flag('json')) await printJson(io, { version: own, node: process.versions.node });
		else await write(io.stdout, `gpuaas ${own}\n`);
		return EXIT.ok;
	},
};

export const commands: readonly Command[] = [version];
