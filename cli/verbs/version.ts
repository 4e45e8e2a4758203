import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { printJson, write } from '../io.ts';

/** From package.json, which is beside cli/ in a checkout and one folder further up when installed. */
export function ownVersion(): string {
	let dir = dirname(fileURLToPath(import.meta.url));
	for (let depth = 0; depth < 4; depth += 1) {
		dir = dirname(dir);
		try {
			const manifest = JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8')) as {
				name?: string;
				version?: string;
			};
			if (manifest.name === 'gpuaas' && manifest.version !== undefined) return manifest.version;
		} catch {
			// Not here: look one folder up.
		}
	}
	return '0.0.0';
}

const version: Command = {
	name: 'version',
	summary: 'Print the version',
	examples: [
		['gpuaas version', 'The version of this program'],
		['gpuaas version --json', 'Also the Node that it runs on'],
	],
	async run(args, io) {
		const own = ownVersion();
		if (args.flag('json')) await printJson(io, { version: own, node: process.versions.node });
		else await write(io.stdout, `gpuaas ${own}\n`);
		return EXIT.ok;
	},
};

export const commands: readonly Command[] = [version];
