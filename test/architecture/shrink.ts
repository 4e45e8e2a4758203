import { execFileSync } from 'node:child_process';
import { ROOT, readText } from './sources.ts';

/** Named exceptions of a rule; a list may only lose entries from one commit to the next. */
export type AllowList = Readonly<Record<string, readonly string[]>>;

export function readAllowList(path: string): AllowList {
	return JSON.parse(readText(path)) as AllowList;
}

/** Entries that an earlier commit's version of the file did not have. Empty where git has no earlier version. */
export function grownEntries(path: string): string[] {
	const now = readText(path);
	const before = earlierVersion(path, now);
	return before === undefined ? [] : addedTo(JSON.parse(before) as AllowList, JSON.parse(now) as AllowList);
}

export function addedTo(before: AllowList, after: AllowList): string[] {
	return Object.entries(after).flatMap(([rule, entries]) =>
		entries.filter((entry) => !(before[rule] ?? []).includes(entry)).map((entry) => `${rule}: ${entry}`),
	);
}

/** HEAD's version when the file was edited since, else the version before HEAD's. */
function earlierVersion(path: string, now: string): string | undefined {
	const commits =
		git(['log', '--format=%H', '--max-count=2', '--', path])
			?.trim()
			.split('\n')
			.filter((line) => line !== '') ?? [];
	for (const commit of commits) {
		const text = git(['show', `${commit}:${path}`]);
		if (text !== undefined && text !== now) return text;
	}
	return undefined;
}

function git(args: readonly string[]): string | undefined {
	try {
		return execFileSync('git', args, { cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
	} catch {
		return undefined;
	}
}
