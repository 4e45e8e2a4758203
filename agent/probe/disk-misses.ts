import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bootId } from '../../kit/process-identity.ts';

/**
 * Since when disks have not answered, one file a disk, so that neither a reader that ends nor a restart of the agent
 * makes a second miss the first. A boot forgets it.
 */
export class DiskMisses {
	readonly #folder: string;

	constructor(folder: string) {
		this.#folder = folder;
	}

	/** It did not answer whoever asked at `atMs` (wall clock). One that can't be put on record is not taken for the first: no other would follow it. */
	add(device: string, atMs: number): { readonly sinceMs: number; readonly isFirst: boolean } {
		const sinceMs = this.#read(device);
		if (sinceMs !== undefined) return { sinceMs, isFirst: false };
		try {
			writeFileSync(this.#pathOf(device), JSON.stringify({ sinceMs: atMs, bootId: bootId() }), { mode: 0o600 });
			return { sinceMs: atMs, isFirst: true };
		} catch {
			return { sinceMs: atMs, isFirst: false };
		}
	}

	/** Whether it did not answer whoever asked last. */
	has(device: string): boolean {
		return this.#read(device) !== undefined;
	}

	/** Whoever asked it got an answer. */
	end(device: string): void {
		rmSync(this.#pathOf(device), { force: true });
	}

	#read(device: string): number | undefined {
		try {
			const kept = JSON.parse(readFileSync(this.#pathOf(device), 'utf8')) as { sinceMs?: unknown; bootId?: unknown };
			return typeof kept.sinceMs === 'number' && kept.bootId === bootId() ? kept.sinceMs : undefined;
		} catch {
			return undefined;
		}
	}

	#pathOf(device: string): string {
		return join(this.#folder, `${device}.miss`);
	}
}
