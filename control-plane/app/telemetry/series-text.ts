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
	/** `name{` */
	readonly before: string;
	/** Constant labels, `} ` */
	readonly after: string;
}

/** The HELP and TYPE lines. */
export function headerOf(family: Family): string {
	let header = HEADERS.get(family);
	if (header === undefined) {
		header = familyHeader(family.name, family.type, family.help);
		HEADERS.set(family, header);
	}
	return header;
}

/** `row`: labels of the row, as `labelText` makes them. */
export function seriesLine({ name }: Family, position: Position, row: string, value: number, more: Labels): string {
	let line = LINES.get(position);
	if (line === undefined) {
		const constant = position.labels.length === 0 ? '' : `,${labelText(position.labels)}`;
		line = { before: `${name}{`, after: `${constant}} ` };
		LINES.set(position, line);
	}
	const extra = more.length === 0 ? '' : `,${labelText(more)}`;
	return `${line.before}${row}${extra}${line.after}${formatValue(value)}\n`;
}

export function infoHeader({ name, type, help }: InfoFamily): string {
	return familyHeader(name, type, help);
}

export function infoLines({ name, series }: InfoFamily): string {
	let text = '';
	for (const { labels, value } of series) text += `${name}{${labelText(labels)}} ${formatValue(value)}\n`;
	return text;
}

export function labelText(labels: Labels): string {
	let text = '';
	for (const [name, value] of labels) text += `${text === '' ? '' : ','}${name}="${escapeLabelValue(value)}"`;
	return text;
}
