import { assert } from '../../kit/assert.ts';
import type { ForwardRules, Target } from './rules.ts';

/** Where one helper process may connect to. Made by the agent from a grant and its local policy. */
export interface ForwardTask {
	readonly target: Target;
	readonly rules: ForwardRules;
}

export function encodeForwardTask(task: ForwardTask): string {
	return JSON.stringify(task);
}

/** Throws on anything else: the agent is the only one that starts the helper. */
export function decodeForwardTask(argument: string): ForwardTask {
	const { target, rules } = JSON.parse(argument) as Partial<ForwardTask>;
	assert(typeof target?.host === 'string' && typeof target.port === 'number', 'a forward has a target');
	const isList = (value: unknown): value is readonly string[] =>
		Array.isArray(value) && value.every((each) => typeof each === 'string');
	assert(typeof rules?.own === 'boolean' && isList(rules.allow) && isList(rules.never), 'a forward has rules');
	return { target, rules };
}
