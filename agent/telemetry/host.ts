import { statfsSync } from 'node:fs';
import type { Clock } from '../../kit/clock.ts';
import { diskNames } from './disks.ts';
import { sampleMachine } from './machine.ts';
import {
	parseDiskstats,
	parseLoadavg,
	parseMeminfo,
	parseNetDev,
	parsePressure,
	parseStat,
	type Values,
} from './proc-files.ts';
import type { Sensors } from './sensors.ts';
import { readText } from './text-files.ts';

/**
 * One sample of this host, straight from /proc: synchronous reads of kernel memory (0.3 ms in all), no subprocess. A file
 * that is missing or refused leaves its values out.
 */
export interface HostSources {
	/** `/proc`, or a recorded copy in tests. */
	readonly procRoot: string;
	readonly sysRoot: string;
	/** Whose file system is reported. */
	readonly dataFolder: string;
	readonly clock: Clock;
	readonly sensors: Sensors;
	runningTasks(): number;
}

export function sampleHost(sources: HostSources): Values {
	const startedAtMs = sources.clock.monotonic();
	const values: Values = new Map();
	const proc = (name: string, parse: (text: string) => void) => {
		const text = readText(`${sources.procRoot}/${name}`);
		if (text !== undefined) parse(text);
	};
	proc('stat', (text) => parseStat(text, values));
	proc('loadavg', (text) => parseLoadavg(text, values));
	proc('meminfo', (text) => parseMeminfo(text, values));
	proc('diskstats', (text) => parseDiskstats(text, new Set(diskNames(sources.sysRoot)), values));
	proc('net/dev', (text) => parseNetDev(text, values));
	for (const resource of ['cpu', 'memory', 'io']) {
		proc(`pressure/${resource}`, (text) => parsePressure(resource, text, values));
	}
	sampleMachine(sources.procRoot, sources.sysRoot, values);
	sources.sensors.sample(values);
	sampleFilesystem(sources.dataFolder, values);
	const { userCPUTime, systemCPUTime, maxRSS: _ } = process.resourceUsage();
	values.set('agent.cpu', (userCPUTime + systemCPUTime) / 1e6);
	values.set('agent.rss', process.memoryUsage.rss());
	values.set('agent.tasks', sources.runningTasks());
	values.set('agent.sample', (sources.clock.monotonic() - startedAtMs) / 1000);
	return values;
}

function sampleFilesystem(folder: string, values: Values): void {
	try {
		const { bsize, blocks, bavail } = statfsSync(folder);
		values.set('filesystem.size', bsize * blocks);
		values.set('filesystem.free', bsize * bavail);
	} catch {
		// The folder is gone: nothing is reported.
	}
}
