import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
	copyFileSync,
	existsSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	renameSync,
	rmSync,
	writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { LAYOUT, versionWord } from '../../../agent/probe/layout.ts';

/**
 * Compiles the fake driver with the C compiler of this machine, once for each content and set of missing functions, into
 * test/.cache. The structures in it are checked against the probe's own table while it compiles.
 */
const here = import.meta.dirname;
const cache = join(here, '../../.cache/nvml');

export interface FakeNvmlOptions {
	/** Functions that this driver lacks, as an older one would. */
	readonly missing?: readonly string[];
}

/** The path of its libnvidia-ml.so.1. */
function buildFakeNvml({ missing = [] }: FakeNvmlOptions = {}): string {
	const sources = readdirSync(here).filter((name) => /\.[ch]$/.test(name));
	const layout = layoutHeader();
	const hash = createHash('sha256').update(layout).update(missing.join());
	for (const name of sources) hash.update(readFileSync(join(here, name)));
	const folder = join(cache, hash.digest('hex').slice(0, 16));
	const library = join(folder, 'libnvidia-ml.so.1');
	if (existsSync(library)) return library;
	// Another test may build the same one now: whoever is last replaces it with the same bytes.
	const work = join(folder, `building-${process.pid}`);
	mkdirSync(work, { recursive: true });
	writeFileSync(join(work, 'layout.h'), layout);
	writeFileSync(join(work, 'symbols.map'), symbolMap(missing));
	const built = join(work, 'library');
	const files = sources.filter((name) => name.endsWith('.c')).map((name) => join(here, name));
	execFileSync(
		'cc',
		[
			...['-shared', '-fPIC', '-O1', '-std=gnu17', '-Wall', '-Wextra', '-Werror', '-fvisibility=hidden'],
			`-I${work}`,
			`-I${here}`,
			`-Wl,--version-script=${join(work, 'symbols.map')}`,
			...files,
			'-o',
			built,
		],
		{ stdio: ['ignore', 'inherit', 'inherit'] },
	);
	renameSync(built, library);
	rmSync(work, { recursive: true });
	return library;
}

/** A driver of a test's own, with what it should do, which `set` changes while it is in use. */
export class FakeDriver {
	readonly library: string;

	constructor(folder: string, scenario = '', options: FakeNvmlOptions = {}) {
		mkdirSync(folder, { recursive: true });
		this.library = join(folder, 'libnvidia-ml.so.1');
		// Never written over: a process may have it mapped.
		copyFileSync(buildFakeNvml(options), `${this.library}.new`);
		renameSync(`${this.library}.new`, this.library);
		this.set(scenario);
	}

	/** Lines of scenario.c's `read_line`, such as `model h200`, `lost 3`, `hang nvmlDeviceGetTemperature`. */
	set(scenario: string): void {
		const path = `${this.library}.scenario`;
		// In one step: the driver may read it at this moment.
		writeFileSync(`${path}.new`, `${scenario}\n`);
		renameSync(`${path}.new`, path);
	}
}

/** One static assertion for each size, offset and version word of the table. */
function layoutHeader(): string {
	const lines = ['/* Made from agent/probe/layout.ts. */'];
	for (const [name, layout] of Object.entries(LAYOUT)) {
		lines.push(`_Static_assert(sizeof(${name}) == ${layout.size}, "size of ${name}");`);
		for (const [field, offset] of Object.entries(layout.offsets))
			lines.push(`_Static_assert(offsetof(${name}, ${field}) == ${offset}, "offset of ${name}.${field}");`);
		const word = versionWord(layout);
		if (word === 0) continue;
		lines.push(`#define VERSION_${name} 0x${word.toString(16)}u`);
		const { version } = layout as { version?: number };
		lines.push(`_Static_assert((sizeof(${name}) | (${version}u << 24)) == VERSION_${name}, "version of ${name}");`);
	}
	return `${lines.join('\n')}\n`;
}

function symbolMap(missing: readonly string[]): string {
	const hidden = missing.map((name) => `${name};`).join(' ');
	return `{ global: nvml*; gpuaas_simulated_nvml; local: ${hidden} *; };\n`;
}
