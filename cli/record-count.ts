import type { Io } from './io.ts';
import { StatusLine } from './status-line.ts';

/** Counts what passes, on a terminal, while a whole log is read. */
export interface RecordCount {
	each<T>(items: AsyncIterable<T>): AsyncIterable<T>;
}

/** `done`: what happens to each record, in the past tense. */
export function countOf(io: Io, done: string, isQuiet: boolean): RecordCount {
	const line = new StatusLine(io, isQuiet);
	return {
		async *each(items) {
			let count = 0;
			try {
				for await (const item of items) {
					count += 1;
					line.show(() => `${count} records ${done}`);
					yield item;
				}
				line.show(() => `${count} records ${done}`, true);
			} finally {
				await line.finish();
			}
		},
	};
}
