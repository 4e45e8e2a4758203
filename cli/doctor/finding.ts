import { type Io, paint, printable } from '../io.ts';

/** What a check of `doctor` found. */
export interface Finding {
	readonly check: string;
	/** warn: it works, and something should be known. */
	readonly result: 'ok' | 'warn' | 'fail';
	readonly finding: string;
	/** What to do; empty when ok. */
	readonly advice: string;
}

export const ok = (check: string, finding: string): Finding => ({ check, result: 'ok', finding, advice: '' });

export const bad = (check: string, result: 'warn' | 'fail', finding: string, advice: string): Finding => ({
	check,
	result,
	finding,
	advice,
});

const COLOURS = { ok: 'green', warn: 'yellow', fail: 'red' } as const;

/** A line each, in columns; below it what to do. */
export function findingsText(io: Io, findings: readonly Finding[]): string {
	const width = Math.max(...findings.map(({ check }) => check.length));
	return findings
		.map(({ check, result, finding, advice }) => {
			const mark = paint(io, COLOURS[result], result.padEnd(4));
			const todo = advice === '' ? '' : `      ${' '.repeat(width)}  do: ${printable(advice)}\n`;
			return `${mark}  ${check.padEnd(width)}  ${printable(finding)}\n${todo}`;
		})
		.join('');
}
