import { bad, type Finding, ok } from './finding.ts';

const SKEW_MAX_MS = 30_000;
/** A Date header has whole seconds: its true time lies within the next one. */
const HEADER_HALF_MS = 500;

/** How far the server's clock is from this host's, and how exactly that is known, from one answer of the server. */
export function clockFinding(header: string | null, sentAtMs: number, receivedAtMs: number): Finding[] {
	const serverMs = header === null ? Number.NaN : Date.parse(header) + HEADER_HALF_MS;
	if (Number.isNaN(serverMs)) return [];
	const offsetMs = serverMs - (sentAtMs + receivedAtMs) / 2;
	const errorMs = HEADER_HALF_MS + (receivedAtMs - sentAtMs) / 2;
	const seconds = (ms: number) => (Math.abs(ms) / 1000).toFixed(1);
	const side = offsetMs < 0 ? 'behind' : 'ahead of';
	const finding = `the server is ${seconds(offsetMs)} s ${side} this host (give or take ${seconds(errorMs)} s)`;
	return Math.abs(offsetMs) <= SKEW_MAX_MS
		? [ok('clock', finding)]
		: [bad('clock', 'fail', finding, 'set both by NTP: certificates and envelopes depend on it')];
}
