import { type Decision, decide, type Gate, heldAt, type Question, type Subject } from './decide.ts';
import { holds } from './permissions.ts';
import type { Place } from './place.ts';

/** One gate of a decision, as Explain shows it. */
export interface GateResult {
	readonly gate: Gate;
	readonly outcome: 'passed' | 'failed' | 'not reached';
	readonly detail: string;
}

export const GATES: readonly Gate[] = [
	'authn',
	'tenant',
	'lifecycle',
	'guardrail',
	'binding',
	'credential',
	'assurance',
];

export interface Trace {
	readonly decision: Decision;
	readonly gates: readonly GateResult[];
}

/**
 * The decision, gate by gate. The outcome is that of `decide` itself: nothing is decided here, so an explanation can't
 * differ from what it explains. Where the tenant gate hides another one (the caller may not get the object), the hidden
 * one is named, because whoever reads a trace may.
 */
export function trace(subject: Subject, question: Question): Trace {
	const decision = decide(subject, question);
	const failed = decision.allowed ? undefined : decision.gate;
	const at = failed === undefined ? GATES.length : GATES.indexOf(failed);
	const gates = GATES.map((gate, index): GateResult => {
		const outcome = index < at ? 'passed' : index === at ? 'failed' : 'not reached';
		return { gate, outcome, detail: detailOf(gate, outcome, subject, question) };
	});
	return { decision, gates };
}

function detailOf(gate: Gate, outcome: GateResult['outcome'], subject: Subject, question: Question): string {
	if (outcome === 'not reached') return '';
	const place = placeOfTarget(question);
	switch (gate) {
		case 'authn':
			return subject.kind;
		case 'tenant':
			return outcome === 'failed' ? hiddenGate(subject, question) : (place?.name ?? 'no object');
		case 'lifecycle':
			return place === undefined ? 'no object' : `${place.name} is ${place.state}`;
		case 'guardrail':
			return outcome === 'failed' ? 'a guardrail at or above forbids it' : 'no guardrail forbids it';
		case 'binding':
			return bindingDetail(subject, question, place);
		case 'credential':
			return subject.limit.permissions === undefined && subject.limit.path === undefined
				? 'the credential has no limits'
				: `the credential reaches ${subject.limit.path ?? 'everywhere'}`;
		case 'assurance':
			return question.stepUp ? 'a stepped-up login is asked for' : 'no step-up is asked for';
	}
}

function placeOfTarget({ target }: Question): Place | undefined {
	return target.kind === 'object' || target.kind === 'platform' ? target.place : undefined;
}

/** Why the object can't be got. */
function hiddenGate(subject: Subject, question: Question): string {
	const { target } = question;
	if (target.kind !== 'object') return 'there is no such object';
	const asPlatform = { kind: 'platform', place: target.place } as const;
	const get = decide(subject, { ...question, permission: target.get, reads: true, stepUp: false, target: asPlatform });
	return get.allowed ? 'there is no such object' : `it may not be seen: ${get.gate}`;
}

function bindingDetail(subject: Subject, { permission }: Question, place: Place | undefined): string {
	if (permission === undefined) return 'no permission is needed';
	if (holds(subject.access.platform, permission)) return 'a platform role holds the permission';
	const at = place?.ancestors.findLast((path) => holds(subject.access.at.get(path) ?? new Uint32Array(0), permission));
	if (at !== undefined) return `a role at ${at} holds the permission`;
	return heldAt(subject.access, permission, place) ? 'held' : 'no role here or above holds the permission';
}
