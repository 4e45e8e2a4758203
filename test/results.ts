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

export interface VitestCounts extends Counts {
	readonly skipped: number;
}

/** From vitest's JSON reporter. A run that left no report, or failed outside a test, has one failure more. */
export function readVitestCounts(path: string): VitestCounts {
	try {
		const report = JSON.parse(readFileSync(path, 'utf8')) as Record<string, number | boolean>;
		const failed = Number(report.numFailedTests);
		return {
			passed: Number(report.numPassedTests),
			failed: report.success === true ? failed : Math.max(1, failed),
			skipped: Number(report.numPendingTests) + Number(report.numTodoTests),
		};
	} catch {
		return { passed: 0, failed: 1, skipped: 0 };
	}
}
