import { cutCells, padCells } from '../display-width.ts';
import { printable } from '../io.ts';
import { quantity } from '../quantity.ts';
import type { SortKey, TopRow, TopView } from './rows.ts';

/** One frame of `top`: as many lines as the terminal has rows, none wider than it. Pure. */
export interface TopScreen {
	readonly columns: number;
	readonly rows: number;
	readonly view: TopView;
	readonly sort: SortKey;
	readonly isReversed: boolean;
	/** First row shown. */
	readonly offset: number;
	readonly title: string;
	/** Why the numbers are old, if they are. */
	readonly trouble: string;
	readonly isColoured: boolean;
}

interface Column {
	readonly head: string;
	readonly width: number;
	readonly alignRight: boolean;
	readonly sort?: SortKey;
	/** Shown from this width of the terminal on. */
	readonly from: number;
	cell(row: TopRow): string;
}

const whole = (value: number | undefined) => (value === undefined ? undefined : Math.round(value));
const percent = (value: number | undefined) => (value === undefined ? '-' : `${Math.round(value * 100)}%`);
const of = (value: number | undefined, unit: string) => (value === undefined ? '-' : quantity(value, unit));
const bytes = (value: number | undefined) => of(value, 'bytes').replace('iB', '').replace(' ', '');

const COLUMNS: readonly Column[] = [
	{ head: 'NODE', width: 18, alignRight: false, sort: 'name', from: 0, cell: (row) => row.node },
	{ head: 'GPU', width: 10, alignRight: false, from: 0, cell: (row) => row.gpu },
	{ head: 'UTIL', width: 5, alignRight: true, sort: 'utilisation', from: 0, cell: (row) => percent(row.utilisation) },
	{ head: '', width: 20, alignRight: false, from: 110, cell: (row) => bar(row.utilisation, 20) },
	{ head: 'MEM', width: 6, alignRight: true, sort: 'memory', from: 0, cell: (row) => bytes(row.memoryUsed) },
	{ head: 'TOTAL', width: 6, alignRight: true, from: 100, cell: (row) => bytes(row.memoryTotal) },
	{ head: 'POWER', width: 7, alignRight: true, sort: 'power', from: 0, cell: (row) => of(whole(row.power), 'watts') },
	{ head: 'LIMIT', width: 7, alignRight: true, from: 120, cell: (row) => of(row.powerLimit, 'watts') },
	{
		head: 'TEMP',
		width: 6,
		alignRight: true,
		sort: 'temperature',
		from: 0,
		cell: (row) => of(whole(row.temperature), 'celsius'),
	},
	{ head: 'CLOCK', width: 9, alignRight: true, from: 130, cell: (row) => of(row.clock, 'hertz') },
	{
		head: 'AGE',
		width: 5,
		alignRight: true,
		from: 100,
		cell: (row) => of(row.ageSeconds === undefined ? undefined : Math.round(row.ageSeconds), 'seconds'),
	},
	{ head: 'MODEL', width: 28, alignRight: false, from: 150, cell: (row) => row.model },
	{
		head: 'NOTE',
		width: 13,
		alignRight: false,
		from: 0,
		cell: (row) => row.note || (row.isSimulated ? 'simulated' : ''),
	},
];

const KEYS = 'q quit · tab GPUs/nodes · u util m mem p power t temp n name · r reverse · ↑↓ scroll';
const HEADER_LINES = 3;

export function bodyRows(rows: number): number {
	return Math.max(1, rows - HEADER_LINES - 1);
}

export function renderTop(all: readonly TopRow[], screen: TopScreen): string[] {
	const { columns, rows, isColoured } = screen;
	const shown = COLUMNS.filter(({ from }) => columns >= from);
	const paint = (code: number, text: string) => (isColoured ? `\u001b[${code}m${text}\u001b[0m` : text);
	const lines = [
		paint(1, fit(summary(all, screen.title), columns)),
		screen.trouble === '' ? fit('', columns) : paint(31, fit(screen.trouble, columns)),
		paint(
			7,
			fit(
				lineOf(shown, (column) => headOf(column, screen)),
				columns,
			),
		),
	];
	const body = all.slice(screen.offset, screen.offset + bodyRows(rows));
	for (const row of body) {
		const line = fit(
			lineOf(shown, (column) => column.cell(row)),
			columns,
		);
		lines.push(row.isBad ? paint(31, line) : (row.utilisation ?? 0) > 0.9 ? paint(32, line) : line);
	}
	while (lines.length < rows - 1) lines.push(fit('', columns));
	const last = Math.min(all.length, screen.offset + body.length);
	const where = all.length === 0 ? 'nothing to show' : `${screen.offset + 1}-${last} of ${all.length}`;
	lines.push(paint(2, fit(`${where} · ${KEYS}`, columns)));
	return lines.slice(0, rows);
}

function summary(all: readonly TopRow[], title: string): string {
	const known = all.filter(({ utilisation }) => utilisation !== undefined);
	const mean = known.reduce((sum, row) => sum + (row.utilisation ?? 0), 0) / Math.max(1, known.length);
	const watts = all.reduce((sum, row) => sum + (row.power ?? 0), 0);
	const bad = all.filter(({ isBad }) => isBad).length;
	const simulated = all.some(({ isSimulated }) => isSimulated) ? ' · SIMULATED GPUs' : '';
	const nodes = new Set(all.map(({ node }) => node)).size;
	return `${title} · ${nodes} ${nodes === 1 ? 'node' : 'nodes'} · util ${percent(known.length === 0 ? undefined : mean)} · ${quantity(watts, 'watts')} · ${bad} with a note${simulated}`;
}

function headOf({ head, sort }: Column, screen: TopScreen): string {
	return sort !== undefined && sort === screen.sort ? `${head}${screen.isReversed ? '▲' : '▼'}` : head;
}

function lineOf(columns: readonly Column[], text: (column: Column) => string): string {
	return columns
		.map((column) => {
			const cell = fit(text(column), column.width).trimEnd();
			return column.alignRight ? cell.padStart(column.width) : padCells(cell, column.width);
		})
		.join(' ');
}

function bar(value: number | undefined, width: number): string {
	if (value === undefined) return '';
	const filled = Math.round(Math.min(1, Math.max(0, value)) * width);
	return '█'.repeat(filled) + '·'.repeat(width - filled);
}

/** Exactly this wide. What a host calls itself may not drive the terminal. */
function fit(text: string, width: number): string {
	return padCells(cutCells(printable(text).replaceAll(/[\n\t]/g, ' '), width), width);
}
