/**
 * Where a key stands in a TOML text, so that "unknown key" can say line and column: smol-toml gives positions for
 * syntax errors only. Scans lines; knows table headers, dotted and quoted keys and multi-line strings, which is what
 * configuration files contain. Used by kit/config.ts on a text that has already parsed.
 */
export interface Position {
	readonly line: number;
	readonly column: number;
}

const HEADER = /^(\s*\[{1,2}\s*)([^\]]+?)\s*\]{1,2}/;
const KEY = /^(\s*)((?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+))*)\s*=/;

/** The place of `section` or `section.key`; of the nearest thing known when it is inside an inline table. */
export function positionOf(text: string, section: string, key?: string): Position {
	let table = '';
	let openQuote = '';
	let nearest: Position = { line: 1, column: 1 };
	for (const [index, line] of text.split('\n').entries()) {
		const wasOpen = openQuote !== '';
		openQuote = quoteAfter(line, openQuote);
		if (wasOpen) continue;
		const header = HEADER.exec(line);
		const assignment = header === null ? KEY.exec(line) : null;
		if (header !== null) table = plain(header[2]);
		const found = header ?? assignment;
		if (found === null) continue;
		const name = header !== null ? table : [table, plain(found[2])].filter((part) => part !== '').join('.');
		const position = { line: index + 1, column: (found[1]?.length ?? 0) + 1 };
		if (name === (key === undefined ? section : `${section}.${key}`)) return position;
		if (name === section || (key === undefined && name.startsWith(`${section}.`))) nearest = position;
	}
	return nearest;
}

function plain(dotted: string | undefined): string {
	return (dotted ?? '')
		.split('.')
		.map((part) => part.trim().replace(/^(["'])(.*)\1$/, '$2'))
		.join('.');
}

/** The multi-line quote that is open after `line`, given the one open before it. */
function quoteAfter(line: string, open: string): string {
	let quote = open;
	for (const match of line.matchAll(/"""|'''/g)) {
		if (quote === '') quote = match[0];
		else if (quote === match[0]) quote = '';
	}
	return quote;
}
