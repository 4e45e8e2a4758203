import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * A stand-in for smartctl (smartmontools), for machines whose disks have no SMART: a program that prints the document that
 * the test laid down for a device, ends as it would, and writes down how it was called. The documents (documents.ts) have
 * the form that smartctl 7.2 to 7.5 prints; the disks in them are none that exist.
 */
export class FakeSmartctl {
	readonly program: string;
	readonly #folder: string;

	constructor(folder: string) {
		mkdirSync(folder, { recursive: true });
		this.#folder = folder;
		this.program = join(folder, 'smartctl');
		writeFileSync(join(folder, 'asked'), '');
		// `exec sleep`: killed as one process, as the real one would be.
		writeFileSync(
			this.program,
			`#!/bin/sh
for last; do :; done
device=\${last#/dev/}
echo "$*" >> '${folder}/asked'
if [ -e '${folder}'/"$device.hang" ]; then exec sleep 600; fi
cat '${folder}'/"$device.json"
exit "$(cat '${folder}'/"$device.status")"
`,
		);
		chmodSync(this.program, 0o755);
	}

	/** What it says of a device (`sda`); its exit status is that in the document. */
	set(device: string, document: object): void {
		const { smartctl } = document as { smartctl?: { exit_status?: number } };
		writeFileSync(join(this.#folder, `${device}.json`), JSON.stringify(document));
		writeFileSync(join(this.#folder, `${device}.status`), String(smartctl?.exit_status ?? 0));
	}

	hang(device: string): void {
		writeFileSync(join(this.#folder, `${device}.hang`), '');
	}

	/** As if the package were not there. */
	uninstall(): void {
		renameSync(this.program, `${this.program}.away`);
	}

	install(): void {
		renameSync(`${this.program}.away`, this.program);
	}
	/** Whoever is asked from now on. */
	unhang(device: string): void {
		rmSync(join(this.#folder, `${device}.hang`));
	}

	/** The arguments of each call, a line each. */
	get asked(): readonly string[] {
		return readFileSync(join(this.#folder, 'asked'), 'utf8').split('\n').filter(Boolean);
	}
}
