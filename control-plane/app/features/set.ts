import { create } from '@bufbuild/protobuf';
import { present } from '../../../kit/assert.ts';
import { GpuaasError } from '../../../kit/error.ts';
import {
	FeatureService,
	SetFeatureResponseSchema,
	UnsetFeatureResponseSchema,
} from '../../../proto/gen/gpuaas/features/v1/features_pb.ts';
import type { FeatureRow } from '../../store/port/features.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { changed } from '../iam/change.ts';
import { assertEtag, etagOf } from '../iam/etag.ts';
import { mutation } from '../use-case.ts';
import { FEATURES, isFeature } from './catalogue.ts';
import { ruleMessage } from './view.ts';

/** Every replica keeps all of them in memory. */
export const FEATURE_RULES_MAX = 1000;
export const FEATURES_CHANGED = 'features.changed';

export const setFeature = mutation('platform', FeatureService.method.setFeature, {
	prepare({ request }) {
		if (!isFeature(request.feature)) throw unknownFeature();
	},
	*apply(tx, { request, nowMs, ctx }) {
		const { feature: name, scope, percentage, reason } = request;
		const place = yield* tx.scopes.get(scope);
		if (place === undefined || place.state === 'deleted') throw noScope();
		const before = yield* tx.features.get(name, scope);
		const to = { percentage, reason, changedAtMs: nowMs, changedBy: ctx.actor.id };
		const row = yield* put(
			tx,
			{ name, scope, organization: place.organization, ...to, version: 1 },
			before,
			request.etag,
		);
		const detail = { from: before === undefined ? 'none' : `${before.percentage}%`, to: `${percentage}%` };
		const response = create(SetFeatureResponseSchema, { rule: ruleMessage(row) });
		return {
			...changed(response, 'features.set', targetOf(row), place.organization, detail),
			events: [{ topic: FEATURES_CHANGED, key: name }],
		};
	},
});

export const unsetFeature = mutation('platform', FeatureService.method.unsetFeature, {
	prepare: () => undefined,
	*apply(tx, { request }) {
		const { feature: name, scope } = request;
		const row = yield* tx.features.get(name, scope);
		if (row === undefined) throw noRule();
		assertEtag(request.etag, row, 'rule');
		yield* tx.features.delete(name, scope, row.version);
		const detail = { from: `${row.percentage}%` };
		return {
			...changed(create(UnsetFeatureResponseSchema), 'features.unset', targetOf(row), row.organization, detail),
			events: [{ topic: FEATURES_CHANGED, key: name }],
		};
	},
});

function* put(tx: Tx, row: FeatureRow, before: FeatureRow | undefined, etag: string): Plan<FeatureRow> {
	if (before === undefined) {
		if (etag !== '') throw gone();
		if ((yield* tx.features.count()) >= FEATURE_RULES_MAX) throw tooMany();
		yield* tx.features.insert(row);
		return row;
	}
	// An empty one means that whoever asks saw no rule.
	assertEtag(etag === '' ? 'none' : etag, before, 'rule');
	return present(yield* tx.features.update(row.name, row.scope, row, before.version), `${etagOf(before)} is locked`);
}

function targetOf({ name, scope }: FeatureRow): string {
	return `features/${name}/${scope}`;
}

function unknownFeature(): GpuaasError {
	return new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'FEATURE_UNKNOWN',
		message: `this version has no such feature, so nothing was set; it has ${Object.keys(FEATURES).join(', ')} (gpuaas feature list)`,
	});
}

function noScope(): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'SCOPE_NOT_FOUND',
		message: 'there is no such scope, so nothing was set; write platform, or the name of an organization or project',
	});
}

function noRule(): GpuaasError {
	return new GpuaasError({
		code: 'NOT_FOUND',
		reason: 'NOT_FOUND',
		message: 'nothing is set for that feature at that scope; see what is with: gpuaas feature list',
	});
}

function gone(): GpuaasError {
	return new GpuaasError({
		code: 'ABORTED',
		reason: 'ETAG_MISMATCH',
		message: 'the rule was removed since it was read, so nothing was set; list the features again',
	});
}

function tooMany(): GpuaasError {
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'TOO_MANY_FEATURES',
		message: `there are ${FEATURE_RULES_MAX} rules, which is the limit of an installation; unset some first, nothing was set`,
		metadata: { rules_max: String(FEATURE_RULES_MAX) },
	});
}
