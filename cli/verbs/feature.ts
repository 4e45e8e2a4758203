import {
	type Feature,
	type FeatureRule,
	FeatureRuleSchema,
	FeatureSchema,
	FeatureService,
} from '../../proto/gen/gpuaas/features/v1/features_pb.ts';
import { type Api, collect } from '../client.ts';
import { type Command, usageError } from '../command.ts';
import { define } from '../define.ts';
import { scopeName, shortName } from '../scope-names.ts';
import { ago, json } from '../show.ts';

const RULES_MAX = 100_000;

/** How far features are rolled out. */
export const commands: readonly Command[] = [
	define({
		name: 'feature list',
		summary: 'List the features of this control plane and where they are on',
		examples: [['gpuaas feature list', 'The rule nearest to who asks counts']],
		async act({ api, io }) {
			const { features, rules } = await all(api);
			return {
				json: {
					features: features.map((feature) => json(FeatureSchema, feature)),
					rules: rules.map((rule) => json(FeatureRuleSchema, rule)),
				},
				header: ['FEATURE', 'SCOPE', 'ON FOR', 'SINCE', 'WHY'],
				rows: [
					...features.map((feature) => [
						feature.name,
						'default',
						feature.defaultOn ? '100%' : '0%',
						'-',
						feature.summary,
					]),
					...rules.map((rule) => [
						rule.feature,
						shortName(rule.scope),
						`${rule.percentage}%`,
						ago(io, rule.changedAt),
						rule.reason || '-',
					]),
				].toSorted((a, b) => (a[0] ?? '').localeCompare(b[0] ?? '')),
				none: 'this control plane has no features that are rolled out by steps',
			};
		},
	}),
	define({
		name: 'feature set',
		summary: 'Turn a feature on or off at a scope and below it',
		takes: ['FEATURE', 'on|off|PERCENT'],
		options: {
			scope: { type: 'string', value: 'SCOPE', help: 'Where (default: platform, that is everywhere)' },
			reason: { type: 'string', value: 'TEXT', help: 'Why' },
		},
		examples: [
			['gpuaas feature set quota-warnings on --scope acme', 'For one organization'],
			['gpuaas feature set quota-warnings 25%', 'For a quarter of all, always the same ones'],
		],
		async act({ api, args, given, command }) {
			const [feature = '', wanted = ''] = given;
			const percentage =
				wanted === 'on' ? 100 : wanted === 'off' ? 0 : Number(/^(\d{1,3})%?$/.exec(wanted)?.[1] ?? 'NaN');
			if (!(percentage <= 100)) throw usageError(command, `${JSON.stringify(wanted)} is not on, off or 0% to 100%`);
			const scope = scopeName(args.text('scope') ?? 'platform');
			const etag = (await ruleOf(api, feature, scope))?.etag ?? '';
			const asked = { feature, scope, percentage, reason: args.text('reason') ?? '', etag };
			const { rule } = await api.client(FeatureService).setFeature(asked);
			return {
				json: { rule: rule === undefined ? null : json(FeatureRuleSchema, rule) },
				text: `${feature} is on for ${rule?.percentage}% at ${shortName(scope)}`,
			};
		},
	}),
	define({
		name: 'feature unset',
		summary: 'Forget what was set at a scope; what stands above counts again',
		takes: ['FEATURE'],
		options: { scope: { type: 'string', value: 'SCOPE', help: 'Where (default: platform)' } },
		examples: [['gpuaas feature unset quota-warnings --scope acme', 'As everywhere else']],
		async act({ api, args, given }) {
			const feature = given[0] ?? '';
			const scope = scopeName(args.text('scope') ?? 'platform');
			const etag = (await ruleOf(api, feature, scope))?.etag ?? 'unknown';
			await api.client(FeatureService).unsetFeature({ feature, scope, etag });
			return { json: {}, text: `${feature} has no rule of its own at ${shortName(scope)}` };
		},
	}),
];

async function all(
	api: Api,
): Promise<{ readonly features: readonly Feature[]; readonly rules: readonly FeatureRule[] }> {
	const client = api.client(FeatureService);
	let features: readonly Feature[] = [];
	const page = async (pageToken: string) => {
		const response = await client.listFeatures({ pageToken, pageSize: 1000 });
		features = response.features;
		return response;
	};
	const { items } = await collect(page, ({ rules }) => rules, RULES_MAX);
	return { features, rules: items };
}

async function ruleOf(api: Api, feature: string, scope: string): Promise<FeatureRule | undefined> {
	return (await all(api)).rules.find((rule) => rule.feature === feature && rule.scope === scope);
}
