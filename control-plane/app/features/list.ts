import { create } from '@bufbuild/protobuf';
import {
	FeatureService,
	ListFeaturesRequestSchema,
	ListFeaturesResponseSchema,
} from '../../../proto/gen/gpuaas/features/v1/features_pb.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { query } from '../use-case.ts';
import { FEATURES } from './catalogue.ts';
import { ruleMessage } from './view.ts';

export const listFeatures = query('platform', FeatureService.method.listFeatures, {
	*read(tx, call) {
		const page = pageOf(call, ListFeaturesRequestSchema);
		return { rows: yield* tx.features.list(page), page };
	},
	answer(_call, { rows, page }) {
		const last = rows.at(-1);
		return create(ListFeaturesResponseSchema, {
			features: Object.entries(FEATURES).map(([name, { summary, defaultOn }]) => ({ name, summary, defaultOn })),
			rules: rows.map(ruleMessage),
			nextPageToken: nextPageToken(page, last && `${last.name} ${last.scope}`, rows.length),
		});
	},
});
