import { parse, TomlError } from 'smol-toml';
import { assert } from './assert.ts';
import type { Field } from './config-fields.ts';
import { GpuaasError } from './error.ts';
import { nearest } from './suggest.ts';
import { positionOf } from './toml-position.ts';

/**
 * One validated, frozen configuration object a process, from (later wins) defaults, a TOML file, environment variables
 * and command-line overrides. Owns smol-toml. Pure: the main reads the file and passes its text. Every problem is
 * reported at once; unknown keys are errors, because a misspelt limit that is silently ignored is no limit.
 *
 * Names: the field `leaseTtlMs` of section `gateway` is `lease_ttl` under `[gateway]` in the file (a value with a unit
 * drops the unit from the name), `GPUAAS_GATEWAY_LEASE_TTL` in the environment, `gateway.lease_ttl` in overrides.
 */
export type Section = Readonly<Record<string, Field<unknown>>>;
export type Schema = Readonly<Record<string, Section>>;

/** The object that a schema describes. */
export type ConfigOf<S extends Schema> = {
	readonly [Name in keyof S]: { readonly [Key in keyof S[Name]]: S[Name][Key] extends Field<infer T> ? T : never };
};

export interface ConfigInputs {
	readonly file?: { readonly path: string; readonly text: string };
	readonly env?: Readonly<Record<string, string | undefined>>;
	/** From flags: `{'gateway.lease_ttl': '45s'}`; text is read as from the environment. */
	readonly overrides?: Readonly<Record<string, unknown>>;
	/** GPUAAS_ variables that belong to somebody else; a trailing `*` stands for any rest. Others are errors. */
	readonly foreignEnv?: readonly string[];
}

export type Source = 'default' | 'unset' | `file ${string}` | `env ${string}` | 'flag';

export interface LoadedConfig<S extends Schema> {
	readonly values: ConfigOf<S>;
	/** By `section.key` as the file spells it. */
	readonly sources: Readonly<Record<string, Source>>;
}

const ENV_PREFIX = 'GPUAAS_';

interface Slot {
	readonly section: string;
	readonly key: string;
	/** As the file spells them. */
	readonly fileSection: string;
	readonly fileKey: string;
	readonly env: string;
	readonly field: Field<unknown>;
}

interface Assigned {
	readonly raw: unknown;
	readonly source: Source;
	readonly where: string;
}

/** Throws INVALID_ARGUMENT `CONFIG_INVALID` whose message lists every problem with its place. */
export function loadConfig<const S extends Schema>(schema: S, inputs: ConfigInputs): LoadedConfig<S> {
	const slots = slotsOf(schema);
	const problems: string[] = [];
	const assigned = new Map<string, Assigned>();
	readFile(slots, inputs, assigned, problems);
	readEnv(slots, inputs, assigned, problems);
	for (const [name, raw] of Object.entries(inputs.overrides ?? {})) {
		if (raw === undefined) continue;
		if (slots.some((slot) => nameOf(slot) === name)) assigned.set(name, { raw, source: 'flag', where: `flag ${name}` });
		else problems.push(`flag ${name}: no such setting${suggest(name, slots.map(nameOf))}`);
	}
	const values: Record<string, Record<string, unknown>> = {};
	const sources: Record<string, Source> = {};
	for (const slot of slots) {
		values[slot.section] ??= {};
		(values[slot.section] as Record<string, unknown>)[slot.key] = resolve(
			slot,
			assigned.get(nameOf(slot)),
			sources,
			problems,
		);
	}
	if (problems.length > 0) {
		throw new GpuaasError({
			code: 'INVALID_ARGUMENT',
			reason: 'CONFIG_INVALID',
			message: `the configuration is invalid and nothing was started; correct:\n  ${problems.join('\n  ')}`,
		});
	}
	for (const section of Object.values(values)) Object.freeze(section);
	return Object.freeze({ values: Object.freeze(values) as ConfigOf<S>, sources: Object.freeze(sources) });
}

/** The effective configuration as a TOML file with each key's meaning and source; secrets masked. */
export function printConfig<S extends Schema>(schema: S, loaded: LoadedConfig<S>): string {
	const lines: string[] = [];
	let section = '';
	for (const slot of slotsOf(schema)) {
		if (slot.fileSection !== section) {
			if (section !== '') lines.push('');
			section = slot.fileSection;
			lines.push(`[${section}]`);
		}
		const value = (loaded.values as Record<string, Record<string, unknown>>)[slot.section]?.[slot.key];
		const shown = slot.field.secret && value !== undefined ? '"[redacted]"' : slot.field.show(value);
		for (const line of slot.field.doc.split('\n')) lines.push(`# ${line.trim()}`);
		lines.push(`# ${slot.field.expects}; ${slot.env}; from ${loaded.sources[nameOf(slot)] ?? 'default'}`);
		lines.push(`${value === undefined ? '# ' : ''}${slot.fileKey} = ${shown}`);
	}
	return `${lines.join('\n')}\n`;
}

/** The same for programs: values as they stand in the file, null where there is none. */
export function configJson<S extends Schema>(schema: S, loaded: LoadedConfig<S>): readonly ConfigJson[] {
	return slotsOf(schema).map((slot) => {
		const value = (loaded.values as Record<string, Record<string, unknown>>)[slot.section]?.[slot.key];
		const shown = slot.field.secret ? '"[redacted]"' : slot.field.show(value);
		return {
			name: nameOf(slot),
			// What we write as TOML are strings, numbers, booleans and lists of them: JSON writes them alike.
			value: value === undefined ? null : JSON.parse(shown),
			source: loaded.sources[nameOf(slot)] ?? 'default',
			env: slot.env,
		};
	});
}

export interface ConfigJson {
	readonly name: string;
	readonly value: unknown;
	readonly source: string;
	readonly env: string;
}

function slotsOf(schema: Schema): Slot[] {
	const slots: Slot[] = [];
	const names = new Set<string>();
	for (const [section, fields] of Object.entries(schema)) {
		for (const [key, field] of Object.entries(fields)) {
			const suffix = field.unitSuffix;
			assert(key.endsWith(suffix), `config ${section}.${key}: its name must end in its unit, ${suffix}`);
			const fileSection = snake(section);
			const fileKey = snake(key.slice(0, key.length - suffix.length));
			const env = `${ENV_PREFIX}${fileSection}_${fileKey}`.toUpperCase();
			assert(!names.has(env), `config ${section}.${key}: another setting is also called ${env}`);
			names.add(env);
			slots.push({ section, key, fileSection, fileKey, env, field });
		}
	}
	return slots;
}

function snake(camel: string): string {
	return camel.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function nameOf(slot: Slot): string {
	return `${slot.fileSection}.${slot.fileKey}`;
}

function readFile(slots: Slot[], inputs: ConfigInputs, assigned: Map<string, Assigned>, problems: string[]): void {
	if (inputs.file === undefined) return;
	const { path, text } = inputs.file;
	const at = (section: string, key?: string) => {
		const { line, column } = positionOf(text, section, key);
		return `${path}:${line}:${column}`;
	};
	for (const [section, table] of Object.entries(parseToml(path, text, problems))) {
		const known = slots.filter((slot) => slot.fileSection === section);
		if (known.length === 0) {
			const sections = [...new Set(slots.map((slot) => slot.fileSection))];
			problems.push(`${at(section)}: no such section [${section}]${suggest(section, sections)}`);
		} else if (typeof table !== 'object' || table === null || Array.isArray(table)) {
			problems.push(`${at(section)}: ${section} must be a section, [${section}]`);
		} else {
			for (const [key, raw] of Object.entries(table)) {
				const where = at(section, key);
				const slot = known.find((candidate) => candidate.fileKey === key);
				if (slot === undefined) {
					problems.push(
						`${where}: no such key ${section}.${key}${suggest(
							key,
							known.map((candidate) => candidate.fileKey),
						)}`,
					);
				} else assigned.set(nameOf(slot), { raw, source: `file ${where}`, where });
			}
		}
	}
}

function parseToml(path: string, text: string, problems: string[]): Record<string, unknown> {
	try {
		return parse(text, { unsafeKeyBehaviour: 'throw' });
	} catch (error) {
		if (!(error instanceof TomlError)) throw error;
		problems.push(`${path}:${error.line}:${error.column}: not TOML: ${error.message.split('\n')[0] ?? ''}`);
		return {};
	}
}

function readEnv(slots: Slot[], inputs: ConfigInputs, assigned: Map<string, Assigned>, problems: string[]): void {
	const foreign = inputs.foreignEnv ?? [];
	for (const [name, raw] of Object.entries(inputs.env ?? {})) {
		if (!name.startsWith(ENV_PREFIX) || raw === undefined) continue;
		const slot = slots.find((candidate) => candidate.env === name);
		if (slot?.field.secret) {
			problems.push(
				`env ${name}: a secret may not stand in the environment, which every child inherits; set ${nameOf(slot)} in the file`,
			);
		} else if (slot !== undefined) {
			assigned.set(nameOf(slot), { raw, source: `env ${name}`, where: `env ${name}` });
		} else if (!foreign.some((entry) => (entry.endsWith('*') ? name.startsWith(entry.slice(0, -1)) : entry === name))) {
			problems.push(
				`env ${name}: no such setting${suggest(
					name,
					slots.map((candidate) => candidate.env),
				)}`,
			);
		}
	}
}

function resolve(
	slot: Slot,
	given: Assigned | undefined,
	sources: Record<string, Source>,
	problems: string[],
): unknown {
	const { field } = slot;
	if (given === undefined) {
		sources[nameOf(slot)] = field.fallback === undefined ? 'unset' : 'default';
		if (field.fallback === undefined && !field.optional) {
			problems.push(
				`${nameOf(slot)} is required: set it under [${slot.fileSection}] or as ${slot.env}; ${field.expects}`,
			);
		}
		return field.fallback;
	}
	sources[nameOf(slot)] = given.source;
	const read = field.read(given.raw);
	if (read.ok) return read.value;
	const why = field.secret ? 'cannot be used' : read.why;
	problems.push(`${given.where}: ${nameOf(slot)} ${why}; it must be ${field.expects}`);
	return undefined;
}

/** `, did you mean x?` for the nearest name within two edits. */
function suggest(wrong: string, names: readonly string[]): string {
	const [near] = nearest(wrong, names);
	return near === undefined ? '' : `, did you mean ${near}?`;
}
