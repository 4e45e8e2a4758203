import type { Option } from '../command.ts';
import type { Io } from '../io.ts';

/** What every verb that opens something on a node takes. */
export const OPEN_OPTIONS: Readonly<Record<string, Option>> = {
	user: {
		type: 'string',
		short: 'u',
		value: 'USER',
		help: 'Local account, if the policy of the node allows it',
	},
	purpose: { type: 'string', value: 'TEXT', help: 'What for; kept in the audit log' },
};

const BROUGHT = /^(TERM|COLORTERM|LANG|LC_[A-Z]+)$/;

/** What a login brings along: how our terminal speaks, and in which language. The node's policy decides what it takes. */
export function broughtEnv(io: Pick<Io, 'env'>): Record<string, string> {
	const env: Record<string, string> = {};
	for (const [name, value] of Object.entries(io.env)) if (value !== undefined && BROUGHT.test(name)) env[name] = value;
	return env;
}

export function windowSize(io: Pick<Io, 'stdout'>): { readonly columns: number; readonly rows: number } {
	const { columns, rows } = io.stdout as { readonly columns?: number; readonly rows?: number };
	// A terminal may say that it has no size, or an absurd one.
	const sane = (size: number | undefined, usual: number) => Math.min(1000, size || usual);
	return { columns: sane(columns, 80), rows: sane(rows, 24) };
}
