import { comparable, type RawAnswer } from '../integration/raw-api.ts';
import { type CaseResult, callRpc, codeOf, type Run, reasonOf, THEIRS } from './calls.ts';
import { type Case, type Rpc, requestOf, rpcs } from './cases.ts';
import { marksOf, paged } from './marks.ts';
import { SUCCEEDING } from './positive.ts';
import { type Stranger, strangersOf } from './strangers.ts';

/**
 * The matrix with those who nearly may (strangers.ts): for each RPC the request as a whole, its list and another's page
 * token. What changed is looked at once for some RPCs, over all of them.
 */
export async function strangersResults(run: Run): Promise<readonly CaseResult[]> {
	const { mode } = run;
	const all = await strangersOf(run);
	const isHeld = ({ byApplicationAlone }: Stranger) => mode.applicationFilter || byApplicationAlone === '';
	const strangers = all.filter(isHeld);
	const results: CaseResult[] = all
		.filter((stranger) => !isHeld(stranger))
		.map(({ name, byApplicationAlone: detail }) => ({ rpc: '', case: `by ${name}`, outcome: 'omitted', detail }));
	for (const stranger of strangers) results.push(await alive(run, stranger));
	const log = await run.world.audit();
	let tables = await mode.tables();
	const asked = rpcs();
	for (let from = 0; from < asked.length; from += RPCS_A_LOOK) {
		const ofSome: CaseResult[] = [];
		for (const rpc of asked.slice(from, from + RPCS_A_LOOK)) {
			// At once: they ask for the same thing, and none of them gets any of it.
			const tried = strangers
				.filter(({ tries }) => tries(rpc))
				.flatMap((stranger) => casesFor(rpc, stranger).map((one) => judged(run, one, stranger)));
			ofSome.push(...(await Promise.all(tried)));
		}
		// A window has room for as many refusals of one organization as some RPCs make: what shares a record tells nothing.
		await run.world.deps.refusals.flush();
		const after = await mode.tables();
		const changed = [...after].filter(([name, held]) => tables.get(name) !== held).map(([name]) => name);
		tables = after;
		results.push(
			...(changed.length === 0
				? ofSome
				: ofSome.map((result) => failed(result, `one of these changed ${changed.join(', ')}`))),
		);
	}
	const fresh = (await run.world.audit()).slice(log.length);
	results.push(eachByItself(fresh));
	for (const stranger of strangers) results.push(recorded(stranger, fresh));
	return results;
}

/** A look at all tables costs as much as many calls; what these are refused fits into one window of refusals. */
const RPCS_A_LOOK = 8;

/** Whoever can't do anything proves nothing. */
async function alive(run: Run, { name, key, principalId, lives }: Stranger): Promise<CaseResult> {
	const answer = await callRpc(run, lives.method, { key, principalId }, { name: lives.name });
	const seen = reasonOf(answer);
	const result = { rpc: `${lives.method.parent.typeName}/${lives.method.name}`, case: `${name}: lives`, detail: seen };
	return { ...result, outcome: seen === lives.reason ? 'pass' : 'fail' };
}

function casesFor({ cases, policy, method }: Rpc, { judged }: Stranger): readonly Case[] {
	const whole = cases.filter(({ kind }) => ['get', 'change', 'watch', 'export', 'list'].includes(kind));
	if (judged === 'alike') return [...whole, ...cases.filter(({ kind }) => kind === 'page token')];
	const kind = 'change';
	return [
		{
			method,
			policy,
			kind,
			field: '',
			requests: ({ theirs }) => ({ foreign: requestOf(method, theirs), unknown: {} }),
		},
	];
}

async function judged(run: Run, one: Case, stranger: Stranger): Promise<CaseResult> {
	const result = { rpc: one.policy.name, case: `${one.kind} by ${stranger.name}`, outcome: 'pass' } as const;
	const { foreign, unknown } = one.requests({ own: stranger.own, theirs: stranger.on, nobodys: run.parties.nobodys });
	const isRefusal = stranger.judged === 'refused';
	// What would succeed for whoever may: else the request's own fault could stand in for the refusal.
	const more = isRefusal ? await SUCCEEDING[one.method.name]?.(run, stranger.on) : undefined;
	const answer = await callRpc(run, one.method, stranger, await paged(run, one, { ...foreign, ...more }));
	const seen = reasonOf(answer);
	if (/internal|unknown|data_loss|HTTP 5/.test(codeOf(answer))) return failed(result, `not a refusal: ${seen}`);
	if (isRefusal)
		return REFUSALS.test(seen) ? { ...result, detail: seen } : failed(result, `no refusal of them: ${seen}`);
	const shown = shownOf(one, stranger, answer);
	if (shown.length > 0) return failed(result, `the answer names ${shown.join(', ')}: ${textOf(answer)}`);
	if (one.kind === 'list') return { ...result, detail: seen };
	const nobodys = await callRpc(run, one.method, stranger, await paged(run, one, unknown));
	if (comparable(answer) === comparable(nobodys)) return { ...result, detail: seen };
	return failed(result, `differs from nobody's: ${textOf(answer)} | ${textOf(nobodys)}`);
}

/** Of who calls, not of what the request says. */
const REFUSALS = /^(PERMISSION_DENIED|SCOPE_SUSPENDED|[A-Z_]*NOT_FOUND)$/;

function textOf({ body }: RawAnswer): string {
	return body.toString('latin1').slice(0, 300);
}

function failed(result: Omit<CaseResult, 'outcome' | 'detail'>, detail: string): CaseResult {
	return { ...result, outcome: 'fail', detail };
}

/** Of what is on the other's side, what the answer shows; names that both have, and their own organization, are no sign. */
function shownOf({ method }: Case, { own, on, organizations }: Stranger, { body }: RawAnswer): readonly string[] {
	const text = body.toString('latin1');
	if (method.name === 'ListAuditRecords')
		return [...text.matchAll(/"organization":"([^"]*)"/g)]
			.map(([, of = '']) => of)
			.filter((of) => !organizations.includes(of));
	const shared = [own.iam.suffix, ...organizations.map((id) => `organizations/${id}`)];
	return marksOf(on).filter((mark) => !shared.includes(mark) && text.includes(mark));
}

/** Past its window's room a refusal is in a record that says neither whose it is nor where: then those below prove nothing. */
function eachByItself(records: Awaited<ReturnType<Run['world']['audit']>>): CaseResult {
	const result = { rpc: '', case: 'strangers: audit, each by itself' } as const;
	const [shared] = records.filter(({ action }) => action === 'refusals');
	if (shared !== undefined) return failed(result, `refusals share a record of "${shared.organization}"`);
	return { ...result, outcome: 'pass', detail: `${records.length} records` };
}

/** What was refused to them is in no other organization's log. */
function recorded(
	{ name, principalId, organizations, lives }: Stranger,
	records: Awaited<ReturnType<Run['world']['audit']>>,
): CaseResult {
	const result = { rpc: '', case: `${name}: audit` } as const;
	const theirs = records.filter(({ actor, result }) => actor.id === principalId && result !== 'ok');
	const elsewhere = theirs.filter(({ organization }) => organization === THEIRS && !organizations.includes(THEIRS));
	const [first] = elsewhere;
	if (first !== undefined) return failed(result, `${first.action} is in the audit of "${first.organization}"`);
	// Whose key has expired is nobody, and in nobody's log by name.
	if (theirs.length === 0 && lives.reason !== 'UNAUTHENTICATED')
		return failed(result, 'none of the calls that were refused to them is in their own log');
	return { ...result, outcome: 'pass', detail: `${theirs.length} records` };
}
