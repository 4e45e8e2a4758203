import type { EvaluationContext, JsonValue, Provider, ResolutionDetails } from '@openfeature/server-sdk';
import { FlagNotFoundError, GeneralError, StandardResolutionReasons, TypeMismatchError } from '@openfeature/server-sdk';
import { isFeature } from '../../app/features/catalogue.ts';
import { evaluate } from '../../app/features/evaluate.ts';
import type { FeatureRules } from './rules.ts';

/** Our table as a provider of OpenFeature: booleans only. Whatever it throws, the client answers with the caller's default. */
export class TableProvider implements Provider {
	readonly metadata = { name: 'gpuaas table' } as const;
	readonly runsOn = 'server';
	readonly #rules: Pick<FeatureRules, 'current'>;

	constructor(rules: Pick<FeatureRules, 'current'>) {
		this.#rules = rules;
	}

	async resolveBooleanEvaluation(
		flag: string,
		_default: boolean,
		{ targetingKey, scopes }: EvaluationContext,
	): Promise<ResolutionDetails<boolean>> {
		if (!isFeature(flag)) throw new FlagNotFoundError(flag);
		const rules = this.#rules.current();
		if (rules === undefined) throw new GeneralError('the rules of features are too old');
		const names = Array.isArray(scopes) ? scopes.filter((name) => typeof name === 'string') : [];
		const { on, rule } = evaluate(rules, flag, { scopes: names, key: targetingKey ?? '' });
		const { SPLIT, TARGETING_MATCH, DEFAULT } = StandardResolutionReasons;
		const isSplit = rule !== undefined && rule.percentage > 0 && rule.percentage < 100;
		return { value: on, reason: rule === undefined ? DEFAULT : isSplit ? SPLIT : TARGETING_MATCH };
	}

	async resolveStringEvaluation(flag: string): Promise<ResolutionDetails<string>> {
		throw new TypeMismatchError(`${flag} is on or off`);
	}

	async resolveNumberEvaluation(flag: string): Promise<ResolutionDetails<number>> {
		throw new TypeMismatchError(`${flag} is on or off`);
	}

	async resolveObjectEvaluation<T extends JsonValue>(flag: string): Promise<ResolutionDetails<T>> {
		throw new TypeMismatchError(`${flag} is on or off`);
	}
}
