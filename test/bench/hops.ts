import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sleep, systemClock } from '../../kit/clock.ts';
import { percentile } from './measure.ts';
import { TerminalLines } from './terminal-lines.ts';

/** Where the time of an echo goes: each key is followed through the processes of a product that is traced (hop-trace.ts). */
export interface Mark {
	readonly key: string;
	readonly point: string;
	readonly us: number;
}

export const KEY = /k\d{7}z/;
const WARM_KEYS = 100;
/** Several times what a process keeps to itself. */
const FLUSHED_MS = 500;

export function monotonicUs(): number {
	return Number(process.hrtime.bigint() / 1000n);
}

/** Both ways of each hop, from a point to the next; `pty host` ends with the program and its terminal. */
const HOPS: Readonly<Record<string, readonly (readonly [string, string])[]>> = {
	hopCommandMs: [
		['key', 'command out'],
		['command in', 'echo'],
	],
	hopClientApiMs: [
		['command out', 'api in'],
		['api out', 'command in'],
	],
	hopControlPlaneMs: [
		['api in', 'gateway out'],
		['gateway in', 'api out'],
	],
	hopGatewayAgentMs: [
		['gateway out', 'agent in'],
		['agent out', 'gateway in'],
	],
	hopAgentMs: [
		['agent in', 'agent host out'],
		['agent host in', 'agent out'],
	],
	hopPtyHostMs: [['agent host out', 'agent host in']],
};

/** Medians over `keys` keys. */
export async function hopBudget(keys: number): Promise<Record<string, number>> {
	const folder = mkdtempSync(join(tmpdir(), 'bench-hops-'));
	const trace = fileURLToPath(new URL('./hop-trace.ts', import.meta.url));
	await using lines = await TerminalLines.open({ NODE_OPTIONS: `--import=${trace}`, BENCH_HOPS: folder });
	const marks: Mark[] = [];
	{
		using line = lines.ours('sh', '-c', 'stty raw -echo; echo READY; exec cat');
		await line.sees('READY');
		for (let sent = 0; sent < keys + WARM_KEYS; sent += 1) {
			const key = `k${String(sent).padStart(7, '0')}z`;
			const startedUs = monotonicUs();
			await line.echo(key);
			if (sent < WARM_KEYS) continue;
			marks.push({ key, point: 'key', us: startedUs }, { key, point: 'echo', us: monotonicUs() });
		}
		await sleep(systemClock, FLUSHED_MS);
	}
	for (const name of readdirSync(folder)) {
		for (const text of readFileSync(join(folder, name), 'utf8').split('\n'))
			if (text !== '') marks.push(JSON.parse(text) as Mark);
	}
	rmSync(folder, { recursive: true, force: true });
	return mediansOf(marks);
}

function mediansOf(marks: readonly Mark[]): Record<string, number> {
	const keys = new Map<string, Map<string, number>>();
	for (const { key, point, us } of marks) {
		const points = keys.get(key) ?? new Map<string, number>();
		keys.set(key, points.set(point, us));
	}
	const medians: Record<string, number> = {};
	for (const [hop, legs] of Object.entries(HOPS)) {
		const ms: number[] = [];
		for (const points of keys.values()) {
			const us = legs.map(([from, to]) => (points.get(to) ?? Number.NaN) - (points.get(from) ?? Number.NaN));
			const sum = us.reduce((total, leg) => total + leg, 0);
			if (!Number.isNaN(sum)) ms.push(sum / 1000);
		}
		if (ms.length > 0) medians[hop] = percentile(ms, 50);
	}
	return medians;
}
