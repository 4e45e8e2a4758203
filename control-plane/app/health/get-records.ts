import { create } from '@bufbuild/protobuf';
import { timestampFromMs, timestampMs } from '@bufbuild/protobuf/wkt';
import { DEFAULT_POLICY } from '../../../health/default-policy.ts';
import {
	GetNodeHealthRecordsResponseSchema,
	HealthRecordSchema,
	HealthService,
} from '../../../proto/gen/gpuaas/telemetry/v1/health_pb.ts';
import { query } from '../use-case.ts';
import { CUSTODY } from '../wire/node.ts';
import { recordedSamples } from './recorded-samples.ts';
import { storedRecords } from './records.ts';
import { clearingMessage, subjectKindMessage } from './wire.ts';

const DAY_MS = 86_400_000;
const ASSIGNMENTS_MAX = 100;

/** What verdicts were made from, to be replayed against a policy; of samples what the agent's ring still has. */
export const getNodeHealthRecords = query('node', HealthService.method.getNodeHealthRecords, {
	*read(tx, { nowMs }, { node }) {
		const { id: nodeId, custody } = node;
		const recent = yield* tx.assignments.ofNodeDuring(nodeId, nowMs - DAY_MS, nowMs + 1, ASSIGNMENTS_MAX);
		// A host that was handed over was another's from its beginning to its end.
		const fromMs = recent
			.filter(({ mode }) => mode === 'host')
			.reduce((latestMs, one) => Math.max(latestMs, one.untilMs ?? one.fromMs), nowMs - DAY_MS);
		return { ...(yield* storedRecords(tx, nodeId)), span: { nodeId, custody, fromMs, nowMs } };
	},
	async answer({ deps }, { facts, evidence, span }) {
		const samples = await recordedSamples(deps.telemetry, deps.healthPolicy ?? DEFAULT_POLICY, span);
		const records = [
			...facts.map(({ row, fact, tenant, isInjected }) => {
				// What nobody asked for is no injection, whatever its agent says.
				if (!isInjected) fact.injection = '';
				const at = timestampFromMs(row.receivedAtMs);
				const record = { case: 'fact' as const, value: fact };
				return {
					atMs: row.receivedAtMs,
					message: create(HealthRecordSchema, { at, custody: CUSTODY[row.custody], tenant: tenant ?? '', record }),
				};
			}),
			...evidence.map(({ row, shownAtMs }) => {
				const { clearing, kind, subjectId: id, subjectIndex: index, taskId, reason, createdBy, atMs } = row;
				const subject = { kind: subjectKindMessage(kind), id, index };
				const value = {
					clearing: clearingMessage(clearing),
					subject,
					taskId,
					reason,
					createdBy,
					shownAt: timestampFromMs(shownAtMs),
				};
				const at = timestampFromMs(atMs);
				return {
					atMs,
					message: create(HealthRecordSchema, {
						at,
						custody: CUSTODY.platform,
						record: { case: 'evidence', value },
					}),
				};
			}),
		];
		records.push(
			...samples.map((message) => ({ atMs: message.at === undefined ? 0 : timestampMs(message.at), message })),
		);
		const samplesFrom = samples[0]?.at;
		return create(GetNodeHealthRecordsResponseSchema, {
			records: records.toSorted((left, right) => left.atMs - right.atMs).map(({ message }) => message),
			...(samplesFrom === undefined ? {} : { samplesFrom }),
		});
	},
});
