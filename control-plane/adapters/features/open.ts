import { OpenFeature } from '@openfeature/server-sdk';
import type { Scope } from '../../../kit/scope.ts';
import type { FeatureGates } from '../../app/features/gates.ts';
import { FeatureRules, type FeatureRulesDeps } from './rules.ts';
import { TableProvider } from './table-provider.ts';

/**
 * Feature gates by OpenFeature over our table. `domain` tells several control planes in one process apart: the library
 * keeps its providers for the whole process. The default that is asked with is always off: it is what an error gives.
 */
export async function openFeatureGates(
	deps: FeatureRulesDeps,
	domain: string,
	scope: Pick<Scope, 'use'>,
): Promise<FeatureGates> {
	const rules = scope.use(await FeatureRules.open(deps));
	await OpenFeature.setProviderAndWait(domain, new TableProvider(rules));
	const client = OpenFeature.getClient(domain);
	return {
		isOn: (feature, { scopes, key }) =>
			client.getBooleanValue(feature, false, { targetingKey: key, scopes: [...scopes] }),
	};
}
