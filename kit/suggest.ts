/** What somebody meant who mistyped a name: the nearest of `names`, closest first; none where nothing is near. */
export function nearest(wrong: string, names: readonly string[], limit = 1): readonly string[] {
	// Of a short word two edits make any other.
	const editsMax = wrong.length < 4 ? 1 : 2;
	return names
		.map((name) => ({ name, edits: editDistance(wrong, name) }))
		.filter(({ edits }) => edits <= editsMax)
		.sort((a, b) => a.edits - b.edits)
		.slice(0, limit)
		.map(({ name }) => name);
}

/** Optimal string alignment: a letter too many, too few or wrong, or two neighbours swapped, is one edit. */
function editDistance(a: string, b: string): number {
	let before: number[] = [];
	let row = Array.from({ length: b.length + 1 }, (_, index) => index);
	for (let i = 1; i <= a.length; i += 1) {
		const next = [i];
		for (let j = 1; j <= b.length; j += 1) {
			const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
			const areSwapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
			const swapped = areSwapped ? (before[j - 2] ?? 0) + 1 : Number.POSITIVE_INFINITY;
			next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, replaced, swapped));
		}
		before = row;
		row = next;
	}
	return row[b.length] ?? 0;
}
