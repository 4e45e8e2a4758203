import type { Clock } from '../../../kit/clock.ts';
import { KeyedBuckets } from '../../../kit/limits.ts';
import type { AppendAudit } from '../audit/event.ts';
import type { AppDeps } from '../deps.ts';
import type { Challenges } from './challenges.ts';

/** What issues and judges certificates: the API's `UseCaseDeps` are such, too. */
export interface IssuingDeps extends AppDeps {
	readonly appendAudit: AppendAudit;
	/** How many refusals of one node or token are recorded. Absent: all, where something else bounds them. */
	readonly refusalRecords?: Pick<KeyedBuckets, 'take'>;
}

/** Refusals of one node or token in the audit log: a few at once, then six an hour; the log of the process has all that are not over the rate of calls. */
export function refusalRecords(clock: Clock): KeyedBuckets {
	return new KeyedBuckets(clock, 6 / 3600, 20, 100_000);
}

export interface EnrollmentDeps extends IssuingDeps {
	readonly challenges: Challenges;
	/** host:port of the gateways as agents reach them, in order of preference. */
	readonly gateways: readonly string[];
}
