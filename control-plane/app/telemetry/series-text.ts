import { escapeLabelValue, familyHeader, formatValue } from '../../../kit/exposition-text.ts';
import type { Family, Position } from './families.ts';
import type { InfoFamily } from './info-families.ts';
import type { Labels } from './labels.ts';

/**
 * Series as lines of a Prometheus page, always text 0.0.4: NVIDIA's counters don't end in `_total`, so OpenMetrics has no
 * way to say them. What of a family and of a position is the same on every page is made once: thousands of pages are
 * made each scrape interval, and only values are formatted anew.
 */
const HEADERS = new WeakMap<Family, string>();
const LINES = new WeakMap<Position, Line>();

interface Line {
	readonly position: Position | undefined;
	/** `name{` */
	readonly before: string;
	/** Constant labels, `} ` */
	readonly after: string;
}

/** The newest: series come position by position. */
let newest: Line = { position: undefined, before: '', after: '' };

/** The HELP and TYPE lines. */
export function headerOf(family: Family): string {
	let header = HEADERS.get(family);
	if (header === undefined) {
		header = oneRun(familyHeader(family.name, family.type, family.help).split(''));
		HEADERS.set(family, header);
	}
	return header;
}

/** `row`: labels of the row, as `labelText` makes them. */
export function seriesLine({ name }: Family, position: Position, row: string, value: number, more: Labels): string {
	const { before, after } = newest.position === position ? newest : lineOf(name, position);
	const extra = more.length === 0 ? '' : `,${labelText(more)}`;
	// The short pieces first: V8 copies what stays short, and keeps a node for each sum of longer ones.
	return before + (row + (extra + after + formatValue(value) + '\n'));
}

function lineOf(name: string, position: Position): Line {
	let line = LINES.get(position);
	if (line === undefined) {
		const constant = position.labels.length === 0 ? '' : `,${labelText(position.labels)}`;
		line = { position, before: oneRun([name, '{']), after: oneRun([constant, '} ']) };
		LINES.set(position, line);
	}
	newest = line;
	return line;
}

export function infoHeader({ name, type, help }: InfoFamily): string {
	return familyHeader(name, type, help);
}

export function infoLines({ name, series }: InfoFamily): string {
	let text = '';
	for (const { labels, value } of series) text += `${name}{${labelText(labels)}} ${formatValue(value)}\n`;
	return text;
}

/** In one run, as `oneRun` makes them: each is on a hundred lines of a page. */
export function labelText(labels: Labels): string {
	const parts: string[] = [];
	for (const [name, value] of labels)
		parts.push(parts.length === 0 ? '' : ',', name, '="', escapeLabelValue(value), '"');
	return oneRun(parts);
}

/** What `+` adds up V8 keeps as a tree, which is walked on each page that it becomes a part of; this it lays out once. */
function oneRun(parts: readonly string[]): string {
	return parts.join('');
}
