import type { AppendAudit } from '../audit/event.ts';
import type { AppDeps } from '../deps.ts';
import type { Challenges } from './challenges.ts';

/** What issues and judges certificates: the API's `UseCaseDeps` are such, too. */
export interface IssuingDeps extends AppDeps {
	readonly appendAudit: AppendAudit;
}

export interface EnrollmentDeps extends IssuingDeps {
	readonly challenges: Challenges;
	/** host:port of the gateways as agents reach them, in order of preference. */
	readonly gateways: readonly string[];
}
