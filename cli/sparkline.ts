const BARS = '▁▂▃▄▅▆▇█';

/** A line of bars from the least to the most of the numbers; a gap where there is none. At most `width` characters. */
export function sparkline(values: readonly (number | undefined)[], width: number): string {
	const columns = Math.max(1, Math.min(width, values.length));
	const cells = Array.from({ length: columns }, (_, column) => {
		const from = Math.floor((column * values.length) / columns);
		const until = Math.max(from + 1, Math.floor(((column + 1) * values.length) / columns));
		const some = values.slice(from, until).filter((value) => value !== undefined);
		return some.length === 0 ? undefined : Math.max(...some);
	});
	const known = cells.filter((cell) => cell !== undefined);
	const least = Math.min(...known);
	const span = Math.max(...known) - least;
	return cells
		.map((cell) => {
			if (cell === undefined) return ' ';
			return BARS[span === 0 ? 0 : Math.round(((cell - least) / span) * (BARS.length - 1))];
		})
		.join('');
}
