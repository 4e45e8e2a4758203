import type { AgentIdentity } from './identity.ts';
import type { RenewalFacts } from './renewal.ts';

/** What `agent status` and `doctor` say about this host's certificate and clock. */
export interface IdentityStatus {
	readonly state: 'valid' | 'not_yet_valid' | 'expired';
	/** One sentence: what is, what it means, what to do. */
	readonly message: string;
	/** Empty while the clock is right, or unknown. */
	readonly clockMessage: string;
	readonly serial: string;
	readonly notAfterMs: number;
}

/** Above this a wrong clock is named; validity is backdated by 60 s. */
const CLOCK_ALARM_MS = 30_000;

export function identityStatus(
	identity: Pick<AgentIdentity, 'credential'>,
	nowMs: number,
	facts: Pick<RenewalFacts, 'clockOffsetMs' | 'isRecovering' | 'lastError'>,
): IdentityStatus {
	const { serial, notBeforeMs, notAfterMs } = identity.credential();
	const trueMs = nowMs + (facts.clockOffsetMs ?? 0);
	const why = facts.lastError === '' ? '' : ` (last try: ${facts.lastError})`;
	const clockMessage = clockText(facts.clockOffsetMs);
	const shared = { serial, notAfterMs, clockMessage };
	if (trueMs >= notAfterMs) {
		const doing = facts.isRecovering ? 'recovering' : 'will recover';
		const message = `certificate expired ${durationText(trueMs - notAfterMs)} ago, ${doing}${why}`;
		return { ...shared, state: 'expired', message };
	}
	if (trueMs < notBeforeMs) {
		const message = `certificate is valid only in ${durationText(notBeforeMs - trueMs)}: this host's clock is behind; set it${why}`;
		return { ...shared, state: 'not_yet_valid', message };
	}
	return {
		...shared,
		state: 'valid',
		message: `certificate valid for ${durationText(notAfterMs - trueMs)} more${why}`,
	};
}

function clockText(offsetMs: number | null): string {
	if (offsetMs === null || Math.abs(offsetMs) < CLOCK_ALARM_MS) return '';
	const side = offsetMs > 0 ? 'behind' : 'ahead of';
	return `this host's clock is ${durationText(Math.abs(offsetMs))} ${side} the control plane's; set it (for example: chronyc makestep)`;
}

export function durationText(ms: number): string {
	const units = [
		['d', 86_400_000],
		['h', 3_600_000],
		['min', 60_000],
	] as const;
	for (const [unit, unitMs] of units) if (ms >= unitMs) return `${Math.floor(ms / unitMs)} ${unit}`;
	return `${Math.floor(ms / 1000)} s`;
}
