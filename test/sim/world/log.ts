import { messageOf } from '../../../kit/error.ts';
import type { LogFields, Logger } from '../../../kit/log.ts';
import type { SimProcess } from './scheduler.ts';

/** Log lines of simulated processes, for whoever watches a seed; they are no part of the trace's hash. */
export function simLogger(
	process: SimProcess,
	print: ((line: string) => void) | undefined,
	bound: LogFields = {},
): Logger {
	const write = (level: string) => (message: string, fields?: LogFields) => {
		if (print === undefined || !process.alive) return;
		const text = Object.entries({ ...bound, ...fields })
			.map(([name, value]) => `${name}=${value instanceof Error ? messageOf(value) : String(value)}`)
			.join(' ');
		print(`        ${process.name} ${level}: ${message} ${text}`);
	};
	return {
		trace: () => {},
		debug: write('debug'),
		info: write('info'),
		warn: write('warn'),
		error: write('error'),
		fatal: write('fatal'),
		child: (fields) => simLogger(process, print, { ...bound, ...fields }),
		isEnabled: () => print !== undefined,
	};
}
