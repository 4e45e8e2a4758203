import { createReadStream } from 'node:fs';
import { fromJson, type JsonValue } from '@bufbuild/protobuf';
import { observationOf } from '../../health/fact-kinds.ts';
import type { Observation } from '../../health/observation.ts';
import { NODE, type Subject, type SubjectKind } from '../../health/verdict.ts';
import { GpuaasError, messageOf } from '../../kit/error.ts';
import { HealthFactSchema } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';

/**
 * Recorded facts, NDJSON, oldest first. A line has `at` (RFC 3339), `node` where there are several, and one of: `fact`
 * (HealthFact as proto JSON), `sample` ({parts: [{kind, id, index, gpu, values}]}), `clearing` ({clearing, kind, id,
 * index, shownAt}: what was seen after `shownAt` stays open), `removed` ({kind, id, index}); a line with none of them only lets time pass. All but that need `custody`; `tenant` says who held the GPU.
 */
export interface RecordedLine {
	readonly node: string;
	readonly observation: Observation;
}

const LINE_CHARACTERS_MAX = 1024 * 1024;
const KINDS: readonly SubjectKind[] = ['node', 'gpu', 'slice', 'nic', 'nvlink'];
const CUSTODIES = ['platform', 'tenant', 'transit'] as const;
const CLEARED = ['gpu_reset', 'diagnostic_passed', 'serviced'] as const;

export async function* readRecords(path: string): AsyncGenerator<RecordedLine> {
	let number = 0;
	const newestMs = new Map<string, number>();
	for await (const line of linesOf(path)) {
		number += 1;
		if (line.trim() === '') continue;
		const recorded = decodeLine(line, `${path}, line ${number}`);
		const { atMs } = recorded.observation;
		if (atMs < (newestMs.get(recorded.node) ?? atMs))
			throw invalid(`${path}, line ${number}`, 'is older than the line before it; sort the file by "at"');
		newestMs.set(recorded.node, atMs);
		yield recorded;
	}
	if (number === 0) throw invalid(path, 'is empty');
}

async function* linesOf(path: string): AsyncGenerator<string> {
	let rest = '';
	try {
		for await (const chunk of createReadStream(path, { encoding: 'utf8' }) as AsyncIterable<string>) {
			const lines = `${rest}${chunk}`.split('\n');
			rest = lines.pop() ?? '';
			if (rest.length > LINE_CHARACTERS_MAX) throw invalid(path, 'has a line of more than 1 MiB');
			yield* lines;
		}
	} catch (error) {
		if (error instanceof GpuaasError) throw error;
		throw invalid(path, `can not be read (${messageOf(error)})`);
	}
	if (rest !== '') yield rest;
}

/** Throws HEALTH_RECORD_INVALID, which names the line. */
export function decodeLine(line: string, where: string): RecordedLine {
	const record = objectOf(where, parse(line, where), 'the line');
	const atMs = timeOf(where, record.at, 'at');
	const node = typeof record.node === 'string' ? record.node : '';
	const { fact, sample, clearing, removed } = record;
	if ([fact, sample, clearing, removed].every((part) => part === undefined))
		return { node, observation: { kind: 'time', atMs } };
	const custody = wordOf(where, record.custody, CUSTODIES, 'custody');
	if (fact !== undefined) {
		const tenant = typeof record.tenant === 'string' ? { tenant: record.tenant } : {};
		return { node, observation: observationOf(factOf(fact, where), { atMs, custody, ...tenant, isInjected: true }) };
	}
	const said = objectOf(where, sample ?? clearing ?? removed, 'a sample, clearing or removed');
	const heard = {
		atMs,
		custody,
		bootId: typeof said.bootId === 'string' ? said.bootId : '',
		simulated: said.simulated === true,
	};
	if (sample === undefined && clearing === undefined)
		return { node, observation: { ...heard, kind: 'removed', subject: subjectOf(where, said) } };
	if (sample === undefined) {
		const word = wordOf(where, said.clearing, CLEARED, 'clearing.clearing');
		const subject = subjectOf(where, said);
		const shown = said.shownAt === undefined ? {} : { shownAtMs: timeOf(where, said.shownAt, 'clearing.shownAt') };
		return { node, observation: { ...heard, kind: 'clearing', subject, clearing: word, ...shown } };
	}
	if (!Array.isArray(said.parts)) throw invalid(where, 'has a sample without "parts", a list');
	const parts = said.parts.map((part: unknown) => {
		const one = objectOf(where, part, 'a part of the sample');
		return { subject: subjectOf(where, one), values: valuesOf(where, one.values) };
	});
	return { node, observation: { ...heard, kind: 'sample', parts } };
}

function factOf(value: unknown, where: string) {
	try {
		return fromJson(HealthFactSchema, value as JsonValue);
	} catch (error) {
		throw invalid(where, `has a "fact" that is no HealthFact (${messageOf(error)})`);
	}
}

function subjectOf(where: string, { kind, id, index, gpu }: Readonly<Record<string, unknown>>): Subject {
	const known = wordOf(where, kind, KINDS, 'kind');
	if (known === 'node') return NODE;
	if (typeof id !== 'string' || id === '') throw invalid(where, `names a ${known} without "id"`);
	return {
		kind: known,
		id,
		index: typeof index === 'number' ? index : 0,
		...(typeof gpu === 'string' ? { gpu } : {}),
	};
}

function valuesOf(where: string, value: unknown): Readonly<Record<string, number>> {
	const values = Object.entries(objectOf(where, value ?? {}, '"values"'));
	for (const [key, number] of values)
		if (typeof number !== 'number') throw invalid(where, `has the value ${JSON.stringify(key)}, which is no number`);
	return Object.fromEntries(values) as Record<string, number>;
}

function timeOf(where: string, value: unknown, name: string): number {
	const ms = typeof value === 'string' ? Date.parse(value) : Number.NaN;
	if (Number.isNaN(ms)) throw invalid(where, `lacks "${name}", a time such as 2026-01-31T12:00:00Z`);
	return ms;
}

function wordOf<T extends string>(where: string, value: unknown, words: readonly T[], name: string): T {
	const found = words.find((word) => word === value);
	if (found === undefined) throw invalid(where, `lacks "${name}": one of ${words.join(', ')}`);
	return found;
}

function objectOf(where: string, value: unknown, name: string): Readonly<Record<string, unknown>> {
	if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
	throw invalid(where, `has ${name} that is no JSON object`);
}

function parse(line: string, where: string): unknown {
	try {
		return JSON.parse(line);
	} catch (error) {
		throw invalid(where, `is no JSON (${messageOf(error)})`);
	}
}

function invalid(where: string, problem: string): GpuaasError {
	return new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'HEALTH_RECORD_INVALID',
		message: `${where} ${problem}: nothing after it was judged; see: gpuaas health policy test --help`,
	});
}
