import { callRpc, type Run, THEIRS } from './calls.ts';
import { type Case, NOBODYS_PAGE, type Request, requestOf, THEIR_PAGE } from './cases.ts';
import type { Sample } from './sample.ts';

/** What no answer to a stranger may hold. */
export function marksOf(theirs: Sample): readonly string[] {
	const { node, taskId, recordingId, terminalId, operationId, approvalId, batchId, iam } = theirs;
	return [
		node,
		taskId,
		recordingId,
		terminalId,
		operationId,
		approvalId,
		batchId,
		iam.suffix,
		`organizations/${THEIRS}`,
	];
}

export async function paged(run: Run, { method, policy }: Case, request: Request): Promise<Request> {
	if (request.pageToken !== THEIR_PAGE && request.pageToken !== NOBODYS_PAGE) return request;
	const base = policy.target === 'scope' ? requestOf(method, run.parties.theirs) : {};
	const answer = await callRpc(run, method, run.owner, { ...base, pageSize: 1 });
	const token = /"nextPageToken":"([^"]+)"/.exec(answer.body.toString())?.[1];
	// A list that the owner has no second page of: a token as it would be, of somebody else's filter.
	const theirs =
		token ??
		run.world.deps.pages.seal({ principalId: run.owner.principalId, method: policy.name, filterSha256: '' }, '1');
	return { ...request, pageToken: request.pageToken === THEIR_PAGE ? theirs : 'bm9ib2R5.AAAAAAAAAAAAAAAAAAAAAA' };
}
