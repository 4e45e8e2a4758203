import { GpuaasError } from '../../../kit/error.ts';
import type { QuotaKind, QuotaRow } from '../../store/port/quotas.ts';

/** What people read. */
export const QUOTA_NOUNS: Readonly<Record<QuotaKind, string>> = {
	nodes: 'nodes',
	gpus: 'GPUs',
	terminals: 'open terminals',
	tasks: 'open tasks',
	api_keys: 'API keys',
};

export const QUOTA_WORDS: Readonly<Record<QuotaKind, string>> = {
	nodes: 'nodes',
	gpus: 'gpus',
	terminals: 'terminals',
	tasks: 'tasks',
	api_keys: 'api-keys',
};

export function hasRoom({ limitMax, used, reserved }: QuotaRow, amount: number): boolean {
	return limitMax === null || used + reserved + amount <= limitMax;
}

/** Throws QUOTA_EXCEEDED for the first of the rows, from the leaf up, that has no room. */
export function assertRoom(rows: readonly QuotaRow[], amount: number): void {
	const full = rows.find((row) => !hasRoom(row, amount));
	if (full !== undefined) throw exceeded(full, amount);
}

function exceeded({ scope, kind, limitMax, used, reserved }: QuotaRow, amount: number): GpuaasError {
	const pending = reserved === 0 ? '' : ` and ${reserved} reserved`;
	const word = QUOTA_WORDS[kind];
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'QUOTA_EXCEEDED',
		message: `${scope} may have ${limitMax} ${QUOTA_NOUNS[kind]}, has ${used}${pending}, and this needs ${amount} more; nothing was done. End some (gpuaas quota usage ${scope}), or ask whoever stands above it for more: gpuaas quota set ${scope} ${word} N`,
		metadata: {
			scope,
			kind: word,
			limit: String(limitMax),
			used: String(used),
			reserved: String(reserved),
			requested: String(amount),
		},
	});
}
