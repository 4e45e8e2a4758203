import { create } from '@bufbuild/protobuf';
import { durationFromMs, timestampFromMs } from '@bufbuild/protobuf/wkt';
import type {
	Clearing,
	HealthAction as EngineAction,
	Custody as EngineCustody,
	HealthState as EngineState,
	Evidence,
	Severity,
	SubjectKind,
	Verdict,
} from '../../../health/verdict.ts';
import { Custody as CustodyMessage } from '../../../proto/gen/gpuaas/common/v1/types_pb.ts';
import {
	HealthAction,
	HealthClearing,
	HealthSeverity,
	HealthState,
	type HealthVerdict,
	HealthVerdictSchema,
} from '../../../proto/gen/gpuaas/telemetry/v1/health_pb.ts';
import { HealthSource, HealthSubjectKind } from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { CUSTODY } from '../wire/node.ts';

/** The engine's words and the contract's. */
const STATES: Readonly<Record<EngineState, HealthState>> = HealthState;
const ACTIONS: Readonly<Record<EngineAction, HealthAction>> = HealthAction;
const SEVERITIES: Readonly<Record<Severity, HealthSeverity>> = {
	info: HealthSeverity.INFO,
	warning: HealthSeverity.WARNING,
	critical: HealthSeverity.CRITICAL,
};
const SOURCES: Readonly<Record<Evidence['source'], HealthSource>> = {
	kmsg: HealthSource.KMSG,
	nvml: HealthSource.NVML,
	sysfs: HealthSource.SYSFS,
	peer: HealthSource.AGENT,
};
const CLEARINGS: Readonly<Record<Clearing, HealthClearing>> = {
	boot: HealthClearing.BOOT,
	recovery_action: HealthClearing.RECOVERY_ACTION,
	well: HealthClearing.WELL,
	clean_load: HealthClearing.CLEAN_LOAD,
	gpu_reset: HealthClearing.GPU_RESET,
	diagnostic_passed: HealthClearing.DIAGNOSTIC_PASSED,
	serviced: HealthClearing.SERVICED,
};
const SUBJECTS: Readonly<Record<SubjectKind, HealthSubjectKind>> = {
	node: HealthSubjectKind.NODE,
	gpu: HealthSubjectKind.GPU,
	slice: HealthSubjectKind.SLICE,
	nvlink: HealthSubjectKind.NVLINK,
	nic: HealthSubjectKind.NIC,
};
const KINDS = new Map(Object.entries(SUBJECTS).map(([name, number]) => [number, name as SubjectKind]));

export function custodyName(custody: CustodyMessage): EngineCustody {
	if (custody === CustodyMessage.TENANT) return 'tenant';
	return custody === CustodyMessage.PLATFORM ? 'platform' : 'transit';
}

/** Of a row, whose text is the engine's. */
export function stateMessage(state: string): HealthState {
	return STATES[state as EngineState] ?? HealthState.UNSPECIFIED;
}

/** Empty where the contract has none. */
export function stateName(state: HealthState): string {
	return (Object.keys(STATES) as EngineState[]).find((name) => STATES[name] === state) ?? '';
}

export function clearingName(clearing: HealthClearing): Clearing | undefined {
	return (Object.keys(CLEARINGS) as Clearing[]).find((name) => CLEARINGS[name] === clearing);
}

export function clearingMessage(clearing: string): HealthClearing {
	return CLEARINGS[clearing as Clearing] ?? HealthClearing.UNSPECIFIED;
}

export function subjectKindMessage(kind: string): HealthSubjectKind {
	return SUBJECTS[kind as SubjectKind] ?? HealthSubjectKind.UNSPECIFIED;
}

/** Undefined: no verdict is about such a thing. */
export function subjectKindName(kind: HealthSubjectKind): SubjectKind | undefined {
	return KINDS.get(kind);
}

export function verdictMessage(verdict: Verdict): HealthVerdict {
	const { subject, state, actions, reasons, evidence, clearedBy } = verdict;
	return create(HealthVerdictSchema, {
		subject: { kind: SUBJECTS[subject.kind], id: subject.id, index: subject.index },
		gpuUuid: subject.gpu ?? '',
		state: STATES[state],
		schedulable: verdict.schedulable,
		actions: actions.map((action) => ACTIONS[action]),
		reasons: reasons.map(({ checkId, code, severity, simulated, sinceMs, lastMs }) => ({
			...{ checkId, code, severity: SEVERITIES[severity], simulated },
			since: timestampFromMs(sinceMs),
			last: timestampFromMs(lastMs),
		})),
		evidence: evidence.map(({ source, raw, observedAtMs, bootId }) => ({
			source: SOURCES[source],
			raw,
			observedAt: timestampFromMs(observedAtMs),
			bootId,
		})),
		since: timestampFromMs(verdict.sinceMs),
		ttl: durationFromMs(verdict.ttlMs),
		inferred: verdict.confidence === 'inferred',
		clearedBy: clearedBy === null ? HealthClearing.UNSPECIFIED : CLEARINGS[clearedBy],
		policyVersion: verdict.policyVersion,
		custody: CUSTODY[verdict.custody],
		simulated: verdict.simulated,
		realState: STATES[verdict.realState],
	});
}
