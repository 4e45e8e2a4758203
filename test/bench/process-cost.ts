import { readdirSync, readFileSync } from 'node:fs';

/** What a process costs, as the kernel counts it: CPU time, and memory with what is shared divided among its users (PSS). */
export interface ProcessCost {
	readonly cpuMs: number;
	readonly pssMB: number;
}

/** USER_HZ is 100 (time(7)). */
const TICK_MS = 10;

export function costOf(pid: number): ProcessCost {
	const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
	const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
	const pss = /^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1'))?.[1];
	return { cpuMs: (Number(fields[11]) + Number(fields[12])) * TICK_MS, pssMB: Number(pss) / 1024 };
}

/** The process whose command line holds all of `texts`. */
export function findProcess(...texts: string[]): number {
	for (const name of readdirSync('/proc')) {
		if (!/^\d+$/.test(name)) continue;
		try {
			const line = readFileSync(`/proc/${name}/cmdline`, 'utf8').replaceAll('\0', ' ');
			if (texts.every((text) => line.includes(text))) return Number(name);
		} catch {
			// It ended meanwhile.
		}
	}
	throw new Error(`no process with ${texts.join(' and ')}`);
}
