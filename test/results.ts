import { appendFileSync, readFileSync } from 'node:fs';

/** What a runner counted. `.ci/run` sums them over all runners, through the file that RESULTS_FILE names. */
export interface Counts {
	readonly passed: number;
	readonly failed: number;
}

export function add(a: Counts, b: Counts): Counts {
	return { passed: a.passed + b.passed, failed: a.failed + b.failed };
}

/** Reports to whoever started us, when they asked. */
export function recordCounts({ passed, failed }: Counts): void {
	const file = process.env.RESULTS_FILE;
	if (file !== undefined) appendFileSync(file, `${passed} ${failed}\n`);
}

/** From vitest's JSON reporter. A run that left no report has failed as a whole. */
export function readVitestCounts(path: string): Counts {
	try {
		const report = JSON.parse(readFileSync(path, 'utf8')) as Record<string, number | boolean>;
		const failed =
			Number(report.numFailedTests) + (report.success === true ? 0 : Number(report.numFailedTests) > 0 ? 0 : 1);
		return { passed: Number(report.numPassedTests), failed };
	} catch {
		return { passed: 0, failed: 1 };
	}
}
