import type { Values } from './proc-files.ts';
import { listFolder, readNumber, readText } from './text-files.ts';

/** Parts of the host sample beyond the basic files of /proc: memory errors, NUMA, out-of-memory kills, open files. */
export function sampleMachine(procRoot: string, sysRoot: string, values: Values): void {
	const fileNr = readText(`${procRoot}/sys/fs/file-nr`);
	if (fileNr !== undefined) setKnown(values, 'files.open', Number.parseInt(fileNr, 10));
	const threads = /\d+\/(\d+)/.exec(readText(`${procRoot}/loadavg`) ?? '')?.[1];
	if (threads !== undefined) values.set('processes.total', Number(threads));
	const vmstat = readText(`${procRoot}/vmstat`) ?? '';
	setKnown(values, 'oom.kills', Number(/^oom_kill (\d+)/m.exec(vmstat)?.[1] ?? Number.NaN));
	setKnown(values, 'memory.major_faults', Number(/^pgmajfault (\d+)/m.exec(vmstat)?.[1] ?? Number.NaN));
	sampleEdac(sysRoot, values);
	sampleNuma(sysRoot, values);
}

/** No memory controller that reports errors: absent, not 0. */
function sampleEdac(sysRoot: string, values: Values): void {
	const root = `${sysRoot}/devices/system/edac/mc`;
	const controllers = listFolder(root).filter((name) => /^mc\d+$/.test(name));
	for (const [file, key] of [
		['ce_count', 'memory.corrected'],
		['ue_count', 'memory.uncorrected'],
	] as const) {
		const counts = controllers
			.map((name) => readNumber(`${root}/${name}/${file}`))
			.filter((count) => !Number.isNaN(count));
		if (counts.length > 0)
			values.set(
				key,
				counts.reduce((sum, count) => sum + count, 0),
			);
	}
}

function sampleNuma(sysRoot: string, values: Values): void {
	const root = `${sysRoot}/devices/system/node`;
	const nodes = listFolder(root).filter((name) => /^node\d+$/.test(name));
	if (nodes.length === 0) return;
	values.set('numa.nodes', nodes.length);
	const free = nodes
		.map((name) => Number(/MemFree:\s+(\d+)/.exec(readText(`${root}/${name}/meminfo`) ?? '')?.[1] ?? Number.NaN) * 1024)
		.filter((bytes) => !Number.isNaN(bytes));
	if (free.length > 0) values.set('numa.free_min', Math.min(...free));
}

function setKnown(values: Values, key: string, value: number): void {
	if (!Number.isNaN(value)) values.set(key, value);
}
