import { FORWARD, type RotationStep } from '../../../pki/trust/rotation.ts';
import type { AuthorityDocument } from './document.ts';
import { planRotation, type RotationPlan, type SelfRotation } from './rotation-plan.ts';

/** What people are told of the rotation: by `ca status`, health and `doctor`. */
export interface RotationOutlook {
	/** What comes next, when, and what a person has to do. */
	readonly text: string;
	readonly step: RotationStep | undefined;
	/** When the control plane takes the step by itself, at the latest; undefined: only a person does. */
	readonly atMs: number | undefined;
	/** Without somebody who does something it goes on without nodes, or not at all. */
	readonly needsPerson: boolean;
}

/** Nodes that are on take a minute; one that is off for an hour is no news either. */
const LAGS_MS = 3_600_000;
const NAMES_SHOWN_MAX = 20;

/** `laggards`: names of the nodes that hold up the next step. */
export function outlookOf(
	document: AuthorityDocument,
	settings: SelfRotation,
	nowMs: number,
	laggards: readonly string[],
): RotationOutlook {
	const plan = planRotation(document, settings, nowMs);
	if (plan.kind === 'root ends') {
		const text = `no issuing CA would live longer than the root, which ends at ${iso(plan.atMs)}: by then begin with a new data folder and enroll every node again`;
		return { text, step: undefined, atMs: undefined, needsPerson: true };
	}
	const step = plan.kind === 'wait' ? plan.step : plan.steps[0];
	if (!settings.isOn) return byHand(document, step, laggards);
	const sinceMs = document.progress?.sinceMs ?? 0;
	const isBlocked = laggards.length > 0 && !(plan.kind === 'steps' && plan.isEnding);
	const needsPerson = isBlocked && nowMs - sinceMs >= LAGS_MS && isLate(plan);
	return { text: textOf(plan, step, isBlocked ? laggards : []), step, atMs: latestMs(plan, nowMs), needsPerson };
}

function isLate(plan: RotationPlan): boolean {
	return plan.kind === 'steps' || (plan.kind === 'wait' && plan.why === 'taken back');
}

function byHand(document: AuthorityDocument, step: RotationStep, laggards: readonly string[]): RotationOutlook {
	const isUnderWay = document.rotation !== null && FORWARD[document.rotation.phase] !== undefined;
	const waits = laggards.length === 0 ? '' : `, which waits for ${listed(laggards)}`;
	const text = isUnderWay
		? `a person takes the next step: gpuaas ca rotate ${step}${waits}`
		: 'a person begins the next rotation: gpuaas ca rotate prepare';
	return { text, step, atMs: undefined, needsPerson: false };
}

function textOf(plan: Exclude<RotationPlan, { kind: 'root ends' }>, step: string, laggards: readonly string[]): string {
	if (plan.kind === 'steps') {
		if (laggards.length === 0) return `${step} comes by itself within minutes`;
		return `${step} waits for ${listed(laggards)}; bring them back, or name each: gpuaas ca rotate ${step} --waive NODE --reason TEXT; it goes on without them at ${iso(plan.regardlessAtMs)}`;
	}
	const at = iso(plan.untilMs);
	switch (plan.why) {
		case 'not due':
			return `the next rotation begins by itself at ${at}`;
		case 'settling':
			return `${step} comes by itself from ${at} on`;
		case 'begun by a person':
			return `${step} is for the person who began: gpuaas ca rotate ${step}; from ${at} on it goes on by itself`;
		case 'taken back':
			return `a person took a step back, and ${step} is theirs again: gpuaas ca rotate ${step}; at ${at} it goes on by itself`;
	}
}

function latestMs(plan: Exclude<RotationPlan, { kind: 'root ends' }>, nowMs: number): number {
	return plan.kind === 'wait' ? plan.untilMs : Math.max(nowMs, plan.regardlessAtMs);
}

function listed(names: readonly string[]): string {
	const shown = names.slice(0, NAMES_SHOWN_MAX).join(', ');
	const more = names.length > NAMES_SHOWN_MAX ? ` and ${names.length - NAMES_SHOWN_MAX} more` : '';
	return names.length === 1 ? `the node ${shown}` : `${names.length} nodes: ${shown}${more}`;
}

function iso(ms: number): string {
	return new Date(ms).toISOString();
}
