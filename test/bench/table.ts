import type { Result, Spread } from './row.ts';

/** The table that people read: a line a size, the targets under each row. */
export function tableOf(results: readonly Result[]): string {
	const lines = [['row', 'n', 'measured', '(min-max)', 'reference', 'ratio', 'also']];
	for (const { row, unit, per, points, skipped, targets } of results) {
		for (const { n, value, reference, ratio, also } of points) {
			lines.push([
				row,
				`${n} ${per}`,
				`${value.median} ${unit}`,
				`${value.min}-${value.max}`,
				reference === null ? '-' : String(reference.median),
				ratio === null ? '-' : String(ratio.median),
				alsoOf(also),
			]);
		}
		for (const n of skipped)
			lines.push([row, `${n} ${per}`, 'skipped: it would take too long here (--patient measures it)']);
		for (const { text, met } of targets)
			lines.push(['', '', `target ${text}: ${met === null ? 'not measured' : met ? 'met' : 'NOT met'}`]);
	}
	return layOut(lines);
}

function alsoOf(also: Readonly<Record<string, Spread>>): string {
	return Object.entries(also)
		.map(([name, { median }]) => `${name} ${median}`)
		.join(', ');
}

function layOut(lines: readonly (readonly string[])[]): string {
	const full = lines.filter((line) => line.length > 3);
	const widths = full[0]?.map((_, column) => Math.max(...full.map((line) => line[column]?.length ?? 0))) ?? [];
	return lines
		.map((line) =>
			line.map((cell, column) => cell.padEnd(line.length > 3 ? (widths[column] ?? 0) : (widths[column] ?? 0))),
		)
		.map((line) => line.join('  ').trimEnd())
		.join('\n');
}
