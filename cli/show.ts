import { type DescMessage, type MessageShape, toJson } from '@bufbuild/protobuf';
import { type Timestamp, timestampMs } from '@bufbuild/protobuf/wkt';
import { type Io, relativeTime } from './io.ts';

/** proto JSON with every field, so that scripts can rely on a key being there. */
export function json<Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>): unknown {
	return toJson(schema, message, { alwaysEmitImplicit: true });
}

/** `TASK_STATE_TIMED_OUT` -> `timed out`: from the enum's generated object and the number. */
export function enumName(values: Readonly<Record<string, string | number>>, value: number): string {
	for (const [name, number] of Object.entries(values))
		if (number === value) return name.toLowerCase().replaceAll('_', ' ');
	return String(value);
}

export function ago(io: Io, at: Timestamp | undefined): string {
	return at === undefined ? '-' : relativeTime(io.clock.now(), timestampMs(at));
}

/** For one thing alone, where there is room: the moment itself, which can be compared with logs, and how long ago. */
export function when(io: Io, at: Timestamp | undefined): string {
	if (at === undefined) return '-';
	const iso = new Date(timestampMs(at)).toISOString().replace(/\.\d+Z$/, 'Z');
	return `${iso} (${ago(io, at)})`;
}

export function labels(map: Readonly<Record<string, string>>): string {
	const pairs = Object.entries(map).map(([key, value]) => `${key}=${value}`);
	return pairs.length === 0 ? '-' : pairs.sort().join(',');
}

/** Aligned `name: value` lines; empty values are left out. */
export function fields(rows: readonly (readonly [string, string | undefined])[]): string {
	const kept = rows.filter((row): row is readonly [string, string] => row[1] !== undefined && row[1] !== '');
	const width = Math.max(...kept.map(([name]) => name.length)) + 1;
	return `${kept.map(([name, value]) => `${`${name}:`.padEnd(width)} ${value}`).join('\n')}\n`;
}
