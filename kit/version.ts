import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const DEPTH_MAX = 5;

/** The package's version: its manifest is above the calling module, whether that is source or packed. */
export function ownVersion(moduleUrl: string): string {
	let dir = dirname(fileURLToPath(moduleUrl));
	for (let depth = 0; depth < DEPTH_MAX; depth += 1) {
		try {
			const manifest = JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8')) as {
				name?: string;
				version?: string;
			};
			if (manifest.name === 'gpuaas' && manifest.version !== undefined) return manifest.version;
		} catch {
			// Not here: look one folder up.
		}
		dir = dirname(dir);
	}
	return '0.0.0';
}
