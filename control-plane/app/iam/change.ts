import type { AuditEvent } from '../audit/event.ts';
import type { Change } from '../use-case.ts';

/** A change of identity or access with its record; the request's own fields are added by the wrapper. */
export function changed<Response>(
	response: Response,
	action: string,
	target: string,
	organization: string,
	detail: NonNullable<AuditEvent['detail']> = {},
): Change<Response> {
	return { response, audit: { action, target, result: 'ok', reason: '', organization, detail } };
}
