import { chmodSync, closeSync, mkdtempSync, openSync, readdirSync, rmSync, statSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { assert } from '../../kit/assert.ts';
import { systemRng } from '../../kit/ids.ts';
import { atLeast, type Row } from './row.ts';
import { TerminalLines } from './terminal-lines.ts';

/**
 * `gpuaas cp` of one file of n MB to the node (the value) and back, beside scp through the same jump host: the whole
 * command, its start included. Ours checks SHA-256 at both ends and syncs file and folder; scp does neither.
 */
export const row: Row = {
	name: 'terminal-copy',
	what: 'cp: one file of n MB to the node',
	unit: 'MB/s',
	per: 'MB',
	reference: 'scp through the jump host over loopback, which neither checks nor syncs',
	targets: [atLeast(1, '>= scp, both ways', ({ n, ratio, also }) => smaller(n, ratio?.median, also.backRatio?.median))],
	sizes: { full: [4, 40, 400], quick: [4, 40] },
	repetitions: { full: 3, quick: 2 },
	budgetSeconds: 120,
	async open() {
		const lines = await TerminalLines.open();
		const folder = mkdtempSync(join(tmpdir(), 'bench-copy-'));
		// The node's end runs as an account of its own.
		chmodSync(folder, 0o777);
		let copies = 0;
		const next = () => {
			copies += 1;
			return join(folder, `copy-${copies}`);
		};
		return {
			async run(n) {
				const file = join(folder, 'file');
				fill(file, n);
				const rate = async (copy: (to: string) => Promise<number>) => {
					const to = next();
					const ms = await copy(to);
					assert(statSync(to).size === n * 1_000_000, 'all of it was copied');
					rmSync(to);
					return (n * 1000) / ms;
				};
				const value = await rate((to) => lines.oursCopy(file, `:${to}`));
				const reference = await rate((to) => lines.sshCopy(file, `:${to}`));
				const backMBps = await rate((to) => lines.oursCopy(`:${file}`, to));
				const scpBackMBps = await rate((to) => lines.sshCopy(`:${file}`, to));
				return { value, reference, also: { backMBps, scpBackMBps, backRatio: backMBps / scpBackMBps } };
			},
			async [Symbol.asyncDispose]() {
				assert(readdirSync(folder).length <= 1, 'nothing half-written is left');
				rmSync(folder, { recursive: true, force: true });
				await lines[Symbol.asyncDispose]();
			},
		};
	},
};

function smaller(n: number, there: number | undefined, back: number | undefined): number | undefined {
	return n < 40 || there === undefined || back === undefined ? undefined : Math.min(there, back);
}

/** Nothing that compresses or becomes a hole. */
function fill(path: string, megabytes: number): void {
	const block = Buffer.concat(Array.from({ length: 20 }, () => systemRng.bytes(50_000)));
	const file = openSync(path, 'w', 0o644);
	for (let written = 0; written < megabytes; written += 1) writeSync(file, block);
	closeSync(file);
}
