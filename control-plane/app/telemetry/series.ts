import type { NodeEntry } from './directory.ts';
import { type Family, familiesOf, type NameSet, type Position } from './families.ts';
import { dcgmLabels, dcgmValueLabels, type HostnameLabel, type Labels, ownLabels } from './labels.ts';
import { type NodeSample, PARTS, type Row } from './sample.ts';

/**
 * The series of one node's sample, family by family, for whoever exports them. Absent values have no series: what isn't
 * there is not 0. Labels of a row are made once a walk, in the form that the visitor wants: thousands of series share a
 * few of them, and this is walked for every page and every push.
 */
export interface SeriesOptions {
	readonly names: ReadonlySet<NameSet>;
	readonly hostnameLabel: HostnameLabel;
}

export interface SeriesVisitor<Form> {
	/** Labels of one row in the visitor's own form. */
	labels(labels: Labels): Form;
	/** Before the first series of a family that has any. */
	family(family: Family): void;
	series(family: Family, position: Position, labels: Form, value: number, more: Labels): void;
}

type Forms<Form> = Readonly<Record<(typeof PARTS)[number], readonly (Form | undefined)[]>>;

export function walkSeries<Form>(
	entry: NodeEntry | undefined,
	sample: NodeSample,
	options: SeriesOptions,
	visitor: SeriesVisitor<Form>,
): void {
	for (const names of ['gpuaas', 'dcgm'] as const) {
		if (!options.names.has(names)) continue;
		const forms = formsOf(sample, visitor, (part, row) =>
			names === 'gpuaas'
				? ownLabels(entry, sample, part, row)
				: dcgmLabels(entry, sample, part, row, options.hostnameLabel),
		);
		for (const family of familiesOf(sample.schema))
			if (family.names === names) walkFamily(family, sample, forms, visitor);
	}
}

function walkFamily<Form>(family: Family, sample: NodeSample, forms: Forms<Form>, visitor: SeriesVisitor<Form>): void {
	let started = false;
	for (const position of family.positions) {
		const rows = sample.rows[position.part];
		const labels = forms[position.part];
		for (let index = 0; index < rows.length; index += 1) {
			const value = (rows[index] as Row).values[position.index] as number;
			const form = labels[index];
			if (Number.isNaN(value) || form === undefined) continue;
			if (!started) visitor.family(family);
			started = true;
			const converted = position.convert(value);
			const more = family.names === 'dcgm' ? dcgmValueLabels(family.name, converted) : NONE;
			visitor.series(family, position, form, converted, more);
		}
	}
}

function formsOf<Form>(
	sample: NodeSample,
	visitor: SeriesVisitor<Form>,
	labelsOf: (part: (typeof PARTS)[number], row: Row) => Labels | undefined,
): Forms<Form> {
	const forms = {} as Record<(typeof PARTS)[number], readonly (Form | undefined)[]>;
	for (const part of PARTS)
		forms[part] = sample.rows[part].map((row) => {
			const labels = labelsOf(part, row);
			return labels && visitor.labels(labels);
		});
	return forms;
}

const NONE: Labels = Object.freeze([]);
