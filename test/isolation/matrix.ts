import { create, toBinary } from '@bufbuild/protobuf';
import { parseApiKey } from '../../control-plane/app/iam/api-key.ts';
import { recordsSuccess } from '../../control-plane/app/use-case.ts';
import { present } from '../../kit/assert.ts';
import { AuditClass } from '../../proto/gen/gpuaas/common/v1/policy_pb.ts';
import { NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { TaskService } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import type { ApiWorld } from '../integration/api-world.ts';
import { comparable, type RawAnswer } from '../integration/raw-api.ts';
import { type CaseResult, callRpc, codeOf, OWN, type Run, reasonOf, type Side, THEIRS } from './calls.ts';
import { type Case, type Rpc, rpcs, usedRequestId } from './cases.ts';
import { idFieldsOf } from './fields.ts';
import { marksOf, paged } from './marks.ts';
import type { OpenMode } from './modes.ts';
import { nestedResults } from './nested.ts';
import { ownersAnswer } from './positive.ts';
import { addSample, nobodys } from './sample.ts';
import { strangersResults } from './strangers-run.ts';

/**
 * Runs the matrix in one mode: what strangers' calls were answered, what they did, and what the log says of them.
 * `isOpen`: nothing keeps the stranger out, so what is named may be gone after each RPC and is made anew.
 */
export async function runMatrix(mode: OpenMode, isOpen = false): Promise<readonly CaseResult[]> {
	const { world } = mode;
	const stranger = await side(world, OWN);
	const owner = await side(world, THEIRS);
	const own = await addSample(world, OWN, stranger.principalId);
	const theirs = await addSample(world, THEIRS, owner.principalId);
	const run: Run = { mode, world, stranger, owner, parties: { own, theirs, nobodys: nobodys(world) } };
	await keepAnswers(run);
	await leaveRecords(run);
	const results: CaseResult[] = [];
	let tables = await mode.tables();
	for (const rpc of rpcs()) {
		const log = await world.audit();
		const refused: string[] = [];
		const theirs = isOpen ? await addSample(world, THEIRS, owner.principalId) : run.parties.theirs;
		const now = { ...run, parties: { ...run.parties, theirs } };
		for (const one of rpc.cases) {
			const answer = await judged(now, one, refused);
			const after = await mode.tables();
			const changed = [...after].filter(([name, held]) => tables.get(name) !== held).map(([name]) => name);
			tables = after;
			results.push(changed.length === 0 ? answer : fail(answer, `it changed ${changed.join(', ')}`));
		}
		await world.deps.refusals.flush();
		const fresh = (await world.audit()).slice(log.length);
		const ofStranger = fresh.filter(({ actor, result }) => actor.id === stranger.principalId && result !== 'ok');
		results.push(audited(rpc, ofStranger, refused));
	}
	// Of whom nothing is kept it is no question what they nearly may.
	if (!isOpen) results.push(...(await strangersResults(run)), ...(await nestedResults(run)));
	// Last, because these calls do what they ask for.
	for (const rpc of rpcs()) results.push(await ownersAnswer(run, rpc));
	return results;
}

async function side(world: ApiWorld, organization: string): Promise<Side> {
	// As an operator: then calls that need a step-up come as far as everybody else's.
	const key = await world.addPrincipal('operator', 'tenant.owner', `organizations/${organization}`);
	return { key, principalId: `principal-${present(parseApiKey(key), 'a key').id}` };
}

/** Under each request id that the stranger will try, the owner has an answer already. */
async function keepAnswers({ world, owner }: Run): Promise<void> {
	await world.deps.store.unit(function* (tx) {
		for (const { method, policy } of rpcs())
			yield* tx.requestKeys.insert({
				principalId: owner.principalId,
				method: policy.name,
				requestId: usedRequestId(policy),
				bodySha256: new Uint8Array(32),
				leafId: null,
				response: toBinary(method.output, create(method.output)),
				expiresAtMs: world.deps.clock.now() + 3_600_000,
			});
	});
}

/** In the other tenant's own audit: a record with a position in the chain, and one that still waits for it. */
async function leaveRecords(run: Run): Promise<void> {
	const { world, owner, parties } = run;
	await callRpc(run, TaskService.method.getTask, owner, { taskId: parties.nobodys.taskId });
	await world.deps.store.unit(function* (tx) {
		const rows = yield* tx.audit.listUnchained(1000);
		yield* tx.audit.chain(rows.map(({ id }, index) => ({ id, seq: index + 1, chain: new Uint8Array(32) })));
	});
	await callRpc(run, NodeService.method.getNode, owner, { node: parties.nobodys.node });
	await world.deps.refusals.flush();
}

async function judged(run: Run, one: Case, refused: string[]): Promise<CaseResult> {
	const { foreign, unknown } = one.requests(run.parties);
	const name = one.field === '' ? one.kind : `${one.kind} ${one.field}`;
	const result = { rpc: one.policy.name, case: name } as const;
	// A request beside itself would prove nothing. One that can name nothing is judged by what it shows.
	const canName = one.kind !== 'list' && idFieldsOf(one.method).length > 0;
	if (canName && JSON.stringify(foreign) === JSON.stringify(unknown))
		return { ...result, outcome: 'fail', detail: 'both requests are the same: the sample names nothing here' };
	const theirAnswer = await callRpc(run, one.method, run.stranger, await paged(run, one, foreign));
	const nobodysAnswer = await callRpc(run, one.method, run.stranger, await paged(run, one, unknown));
	for (const answer of [theirAnswer, nobodysAnswer]) if (isRecorded(one, answer)) refused.push(reasonOf(answer));
	const seen = reasonOf(theirAnswer);
	const shown = shownOf(run, one, theirAnswer);
	if (shown.length > 0)
		return {
			...result,
			outcome: 'fail',
			detail: `the answer names ${shown.join(', ')}: ${theirAnswer.body.toString().slice(0, 300)}`,
		};
	if (/internal|unknown|data_loss|HTTP 5/.test(codeOf(theirAnswer)))
		return { ...result, outcome: 'fail', detail: `not a refusal: ${seen}` };
	if (comparable(theirAnswer) !== comparable(nobodysAnswer))
		return {
			...result,
			outcome: 'fail',
			detail: `differs from nobody's: ${theirAnswer.body.toString().slice(0, 300)} | ${nobodysAnswer.body.toString().slice(0, 300)}`,
		};
	return { ...result, outcome: 'pass', detail: seen };
}

function fail(result: CaseResult, detail: string): CaseResult {
	return { ...result, outcome: 'fail', detail: result.outcome === 'fail' ? `${result.detail}; ${detail}` : detail };
}

/** What of the other tenant the answer shows. */
function shownOf({ parties }: Run, { method }: Case, { body }: RawAnswer): readonly string[] {
	const text = body.toString('latin1');
	// Of their own attempts the log says what they tried: what counts there is whose record it is.
	if (method.name === 'ListAuditRecords')
		return [...text.matchAll(/"organization":"([^"]*)"/g)].map(([, of = '']) => of).filter((of) => of !== OWN);
	return marksOf(parties.theirs).filter((mark) => text.includes(mark));
}

const DENIALS = /^(unauthenticated|permission_denied|not_found)$/;
const FAILURES = /^(failed_precondition|aborted|already_exists|resource_exhausted)$/;

/** As app/use-case records refusals. */
function isRecorded({ method, policy }: Case, answer: RawAnswer): boolean {
	if (policy.audit === AuditClass.NONE) return false;
	if (method.methodKind === 'bidi_streaming') return reasonOf(answer) !== 'OK';
	const code = codeOf(answer);
	return DENIALS.test(code) || (recordsSuccess(policy) && FAILURES.test(code));
}

/** Each refusal is in the log of the stranger's organization, none in the other's, and many are counted into few. */
function audited(
	{ policy }: Rpc,
	records: Awaited<ReturnType<ApiWorld['audit']>>,
	refused: readonly string[],
): CaseResult {
	const result = { rpc: policy.name, case: 'audit' } as const;
	const ofMethod = records.filter(({ method }) => method === policy.name);
	const counted = ofMethod.reduce((sum, { detail }) => sum + Number(detail.coalesced ?? 1), 0);
	const elsewhere = ofMethod.filter(({ organization }) => organization !== OWN);
	const reasons = new Set(refused).size;
	if (elsewhere.length > 0)
		return { ...result, outcome: 'fail', detail: `in the audit of "${elsewhere[0]?.organization}"` };
	if (counted !== refused.length)
		return { ...result, outcome: 'fail', detail: `${refused.length} calls were refused and ${counted} are in the log` };
	if (ofMethod.length > 2 * reasons)
		return { ...result, outcome: 'fail', detail: `${ofMethod.length} records for ${reasons} reasons: not coalesced` };
	return { ...result, outcome: 'pass', detail: `${counted} refusals in ${ofMethod.length} records` };
}
