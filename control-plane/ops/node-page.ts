import type { NodeEntry } from '../app/telemetry/directory.ts';
import type { Family, NameSet, Position } from '../app/telemetry/families.ts';
import type { InfoFamily } from '../app/telemetry/info-families.ts';
import type { HostnameLabel, Labels } from '../app/telemetry/labels.ts';
import { exportedSample } from '../app/telemetry/old-values.ts';
import type { NodeSample } from '../app/telemetry/sample.ts';
import { type SeriesVisitor, walkSeries } from '../app/telemetry/series.ts';
import { headerOf, infoHeader, infoLines, labelText, seriesLine } from '../app/telemetry/series-text.ts';
import { type InfoOptions, infoFamilies } from './node-info.ts';

/**
 * The page of one node's newest sample: our names and dcgm-exporter's beside them. No time stamps: a series that is gone
 * must get its stale marker. A value that was read too long ago is gone.
 */
export interface NodePageOptions extends InfoOptions {
	readonly names: ReadonlySet<NameSet>;
	readonly hostnameLabel: HostnameLabel;
}

/** In pieces, for `compressed`. */
export function nodePage(
	entry: NodeEntry | undefined,
	sample: NodeSample,
	ageMs: number,
	options: NodePageOptions,
): readonly string[] {
	const page = new PageWriter();
	walkSeries(entry, exportedSample(sample), options, page);
	if (options.names.has('gpuaas')) for (const family of infoFamilies(entry, sample, ageMs, options)) page.info(family);
	return page.pieces();
}

/**
 * V8 keeps what is added to a string as a tree, and makes one run of it when its bytes are asked for. Of a whole page that
 * run is too long for the young heap, which costs several times as much as making it in pieces.
 */
const PIECE_LENGTH = 16 * 1024;

class PageWriter implements SeriesVisitor<string> {
	readonly #pieces: string[] = [];
	#text = '';

	labels(labels: Labels): string {
		return labelText(labels);
	}

	family(family: Family): void {
		if (this.#text.length > PIECE_LENGTH) {
			this.#pieces.push(this.#text);
			this.#text = '';
		}
		this.#text += headerOf(family);
	}

	series(family: Family, position: Position, row: string, value: number, more: Labels): void {
		this.#text += seriesLine(family, position, row, value, more);
	}

	info(family: InfoFamily): void {
		this.#text += infoHeader(family) + infoLines(family);
	}

	pieces(): readonly string[] {
		return [...this.#pieces, this.#text];
	}
}
