import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { tool } from '../../tools.ts';
import { type KeyState, writeState } from './state.ts';

/**
 * STAND-IN for a security key: a folder for PATH with programs of libfido2's names and interface, whose `-L`, `-M` and `-G`
 * are those of a key in software (key.ts). What libfido2 does without any key, `-V`, is done by the real programs: so what the
 * stand-in makes and what the command line makes of it are judged by libfido2 itself.
 */
export class SoftwareKey implements Disposable {
	readonly folder = mkdtempSync(join(tmpdir(), 'gpuaas-fido2-'));
	readonly #name: string;

	constructor(name: string, state: Partial<KeyState> = {}) {
		this.#name = name;
		mkdirSync(this.bin);
		this.set({ name, hasPin: true, isPluggedIn: true, counter: 0, credentials: {}, ...state });
		for (const program of ['fido2-token', 'fido2-cred', 'fido2-assert']) {
			const key = `exec '${process.execPath}' '${join(import.meta.dirname, 'key.ts')}' '${this.folder}' ${program} "$@"`;
			const script = `#!/bin/sh\ncase "$1" in -V) exec '${tool(program)}' "$@" ;; esac\n${key}\n`;
			writeFileSync(join(this.bin, program), script);
			chmodSync(join(this.bin, program), 0o755);
		}
	}

	get bin(): string {
		return join(this.folder, 'bin');
	}

	set(state: KeyState): void {
		writeState(this.folder, { ...state, name: this.#name });
	}

	[Symbol.dispose](): void {
		rmSync(this.folder, { recursive: true, force: true });
	}
}
