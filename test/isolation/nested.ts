import type { DescField, DescMessage, DescMethod } from '@bufbuild/protobuf';
import { ScalarType } from '@bufbuild/protobuf';
import { ROLES } from '../../control-plane/app/iam/roles.ts';
import { etagOf } from '../../control-plane/app/wire/node.ts';
import { ApprovalService } from '../../proto/gen/gpuaas/approvals/v1/approvals_pb.ts';
import { comparable, type RawAnswer } from '../integration/raw-api.ts';
import { type CaseResult, callRpc, codeOf, type Run, reasonOf } from './calls.ts';
import { type Request, requestOf, rpcs } from './cases.ts';
import { marksOf } from './marks.ts';
import type { Sample } from './sample.ts';

/**
 * Names of what is another's deep inside a request: in messages, lists and maps, wherever the contract lets text stand, and in
 * the requests that an approval is asked for. Each text alone, in a request that is otherwise about the stranger's own; the
 * answer is the same whether the name is another's or nobody's. Such a call may do something to what is the caller's own, so
 * what is compared afterwards is the other's: all that its owner can read is as before.
 */
export async function nestedResults(run: Run): Promise<readonly CaseResult[]> {
	const before = await ownersReads(run);
	const results: CaseResult[] = [];
	for (const { method, policy } of rpcs()) {
		for (const path of nestedTexts(method.input)) {
			const requests = NAMES.map(([name, of]) => [name, filled(run, method, path, of)] as const);
			for (const [name, { foreign, unknown, texts }] of requests) {
				const result = {
					rpc: policy.name,
					case: `nested ${path.map(({ localName }) => localName).join('.')} = ${name}`,
				};
				results.push(await judged(run, method, result, foreign, unknown, texts));
			}
		}
		if (!policy.stepUp || method.methodKind !== 'unary') continue;
		const asked = (sample: Sample) => ({
			method: policy.name,
			reason: 'x',
			requestJson: JSON.stringify(requestOf(method, sample)),
		});
		const { theirs, nobodys } = run.parties;
		const result = { rpc: policy.name, case: 'nested in a request for approval' };
		results.push(await judged(run, ApprovalService.method.createApproval, result, asked(theirs), asked(nobodys)));
	}
	results.push(reachingFar(results));
	const after = await ownersReads(run);
	for (const [rpc, { reason }] of before)
		if (reason !== 'OK') results.push({ rpc, case: 'nested: the owner reads', outcome: 'fail', detail: reason });
	for (const [rpc, { answer }] of before)
		results.push({
			rpc,
			case: 'nested: what the other has',
			outcome: after.get(rpc)?.answer === answer ? 'pass' : 'fail',
			detail:
				after.get(rpc)?.answer === answer
					? 'as before'
					: `${answer.slice(0, 300)} | ${after.get(rpc)?.answer.slice(0, 300)}`,
		});
	return results;
}

/** Requests that the contract refuses try nothing: some of them must come further than that. */
function reachingFar(results: readonly CaseResult[]): CaseResult {
	const far = results.filter(({ detail }) => detail !== 'INVALID_REQUEST').length;
	const outcome = far >= FAR_LEAST ? 'pass' : 'fail';
	return { rpc: '', case: 'nested: how many come far', outcome, detail: `${far} of ${results.length}` };
}

const FAR_LEAST = 30;

/** What the texts are tried with. */
const NAMES: readonly (readonly [string, (sample: Sample) => string])[] = [
	['an id', ({ taskId }) => taskId],
	['a scope', ({ iam }) => iam.scope],
	['a node', ({ node }) => node],
];

async function judged(
	run: Run,
	method: DescMethod,
	named: Pick<CaseResult, 'rpc' | 'case'>,
	foreign: Request,
	unknown: Request,
	/** What each of them names, where an answer may repeat it. */
	[foreignName, unknownName]: readonly [string, string] = ['', ''],
): Promise<CaseResult> {
	const theirs = await callRpc(run, method, run.stranger, await fresh(run, foreign));
	const nobodys = await callRpc(run, method, run.stranger, await fresh(run, unknown));
	const [seen, other] = [reasonOf(theirs), reasonOf(nobodys)];
	const sent = JSON.stringify(foreign);
	const text = theirs.body.toString('latin1');
	const shown = marksOf(run.parties.theirs).filter((mark) => text.includes(mark) && !sent.includes(mark));
	if (/internal|unknown|data_loss|HTTP 5/.test(codeOf(theirs)))
		return { ...named, outcome: 'fail', detail: `not a refusal: ${seen}` };
	if (shown.length > 0) return { ...named, outcome: 'fail', detail: `the answer names ${shown.join(', ')}` };
	if (seen !== other) return { ...named, outcome: 'fail', detail: `${seen}, and ${other} for nobody's` };
	const [foreignText, unknownText] = [refusalText(theirs, foreignName), refusalText(nobodys, unknownName)];
	if (seen !== 'OK' && foreignName !== '' && foreignText !== unknownText)
		return { ...named, outcome: 'fail', detail: `${foreignText.slice(0, 300)} | ${unknownText.slice(0, 300)}` };
	return { ...named, outcome: 'pass', detail: seen };
}

/** A refusal word for word, but for the name that was sent. */
function refusalText({ status, body }: RawAnswer, name: string): string {
	return `${status} ${body.toString('latin1').replaceAll(name, 'NAME')}`;
}

/** With the node's etag as it is now: a call before it may have changed the caller's own node. */
async function fresh({ world, parties }: Run, request: Request): Promise<Request> {
	if (typeof request.etag !== 'string' || request.node !== parties.own.node) return request;
	const node = await world.deps.store.read((tx) => tx.nodes.get(parties.own.node));
	return node === undefined ? request : { ...request, etag: etagOf(node) };
}

/** Paths to every text that stands in a message, a list or a map of the request. */
function nestedTexts(message: DescMessage, above: readonly DescField[] = []): readonly (readonly DescField[])[] {
	if (above.length >= DEPTH_MAX) return [];
	return message.fields.flatMap((field) => {
		const path = [...above, field];
		if (field.fieldKind === 'scalar') return above.length > 0 && field.scalar === ScalarType.STRING ? [path] : [];
		if (field.fieldKind === 'list' && field.listKind === 'scalar')
			return field.scalar === ScalarType.STRING ? [path] : [];
		if (field.fieldKind === 'map') return field.mapKind === 'scalar' ? [path] : [];
		const inside = field.fieldKind === 'message' || field.fieldKind === 'list' ? field.message : undefined;
		if (inside === undefined || inside.typeName.startsWith('google.protobuf.')) return [];
		return nestedTexts(inside, path);
	});
}

const DEPTH_MAX = 4;

/** The stranger's own request with one text in it that names what is the other's, or nobody's. */
function filled(
	run: Run,
	method: DescMethod,
	path: readonly DescField[],
	of: (sample: Sample) => string,
): { readonly foreign: Request; readonly unknown: Request; readonly texts: readonly [string, string] } {
	const { own, theirs, nobodys } = run.parties;
	const base = requestOf(method, own);
	const texts = [of(theirs), of(nobodys)] as const;
	return { foreign: put(base, path, texts[0]), unknown: put(base, path, texts[1]), texts };
}

function put(into: Request, [field, ...rest]: readonly DescField[], text: string): Request {
	if (field === undefined) return into;
	const { localName } = field;
	if (field.fieldKind === 'map') return { ...into, [localName]: { name: text } };
	if (rest.length === 0) return { ...into, [localName]: field.fieldKind === 'list' ? [text] : text };
	const there = into[localName];
	const inside = (Array.isArray(there) ? there[0] : there) as Request | undefined;
	const value = put(inside ?? {}, rest, text);
	// Of a oneof only the one that is filled.
	const others = field.oneof === undefined ? [] : field.oneof.fields.map((one) => one.localName);
	const kept = Object.fromEntries(Object.entries(into).filter(([name]) => !others.includes(name)));
	return { ...kept, [localName]: field.fieldKind === 'list' ? [value] : value };
}

/** What no sample request reads: a recording without its file. The positive control reads one. */
const NOT_READ = new Set(['ReadRecording']);
/** What was measured grows old by itself while the matrix runs. */
const MEASURED = /^gpuaas\.telemetry\./;

/** By RPC: what the owner reads of what is theirs. */
async function ownersReads(
	run: Run,
): Promise<ReadonlyMap<string, { readonly reason: string; readonly answer: string }>> {
	const reads = new Map<string, { readonly reason: string; readonly answer: string }>();
	for (const { method, policy, cases } of rpcs()) {
		if (!policy.reads || method.methodKind !== 'unary' || policy.target === 'any' || policy.target === 'platform')
			continue;
		if (!cases.some(({ kind }) => kind === 'get') || NOT_READ.has(method.name)) continue;
		if (MEASURED.test(method.parent.typeName)) continue;
		if (ROLES['tenant.owner']?.permissions.has(policy.permission) !== true) continue;
		const answer = await callRpc(run, method, run.owner, requestOf(method, run.parties.theirs));
		reads.set(policy.name, { reason: reasonOf(answer), answer: comparable(answer) });
	}
	return reads;
}
