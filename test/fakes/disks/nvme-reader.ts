import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type DiskHealth, SMART } from '../../../agent/probe/disk-health.ts';

/**
 * A stand-in for the process that reads an NVMe controller, for machines that have none: it prints what the test laid down
 * for one, or waits in state D as for a controller that is dying, and writes down when it was called.
 */
export class FakeNvmeReader {
	readonly command: readonly string[];
	readonly #folder: string;

	constructor(folder: string) {
		mkdirSync(folder, { recursive: true });
		this.#folder = folder;
		const waiting = join(folder, 'wait-in-d');
		execFileSync('cc', ['-O1', '-Wall', '-Werror', join(import.meta.dirname, 'wait-in-d.c'), '-o', waiting]);
		writeFileSync(join(folder, 'asked'), '');
		const program = join(folder, 'nvme-reader');
		writeFileSync(
			program,
			`#!/bin/sh
echo "$1" >> '${folder}/asked'
if [ -e '${folder}'/"$1.hang" ]; then exec '${waiting}'; fi
cat '${folder}'/"$1.json"
`,
		);
		chmodSync(program, 0o755);
		this.command = [program];
	}

	/** What a controller (`nvme0`) says of itself. */
	set(device: string, health: Omit<DiskHealth, 'smart'>): void {
		const reading = { device, health: { smart: SMART.read, ...health }, why: '' };
		writeFileSync(join(this.#folder, `${device}.json`), JSON.stringify(reading));
		rmSync(join(this.#folder, `${device}.hang`), { force: true });
	}

	hang(device: string): void {
		writeFileSync(join(this.#folder, `${device}.hang`), '');
	}

	/** Whoever reads it ends, without a word. */
	fail(device: string): void {
		for (const end of ['hang', 'json']) rmSync(join(this.#folder, `${device}.${end}`), { force: true });
	}

	get asked(): readonly string[] {
		return readFileSync(join(this.#folder, 'asked'), 'utf8').split('\n').filter(Boolean);
	}
}
