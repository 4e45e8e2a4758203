import type { DescMethod } from '@bufbuild/protobuf';
import type { ApiWorld } from '../integration/api-world.ts';
import { enveloped, type RawAnswer, rawCall } from '../integration/raw-api.ts';
import { attach } from '../integration/terminal-samples.ts';
import type { Parties, Request } from './cases.ts';
import type { OpenMode } from './modes.ts';

/** Who calls what in a run of the matrix, and what came back. */
export interface CaseResult {
	/** `gpuaas.tasks.v1.TaskService/GetTask` */
	readonly rpc: string;
	/** `get`, `filter node`, `audit`, `positive` ... */
	readonly case: string;
	/** `omitted`: the mode can't hold it, and `detail` says why. */
	readonly outcome: 'pass' | 'fail' | 'omitted';
	/** What was seen: the reason of the answer; when it failed, why. */
	readonly detail: string;
}

export const THEIRS = 'theirs';
export const OWN = 'strangers';

export interface Side {
	readonly key: string;
	readonly principalId: string;
}

export interface Run {
	readonly mode: OpenMode;
	readonly world: ApiWorld;
	readonly stranger: Side;
	readonly owner: Side;
	readonly parties: Parties;
}

export function callRpc({ world }: Run, method: DescMethod, side: Side, request: Request): Promise<RawAnswer> {
	if (method.methodKind === 'bidi_streaming') return attach(world, side.key, String(request.terminalId));
	const json = JSON.stringify(request);
	const isStream = method.methodKind === 'server_streaming';
	return rawCall(world, {
		path: `/${method.parent.typeName}/${method.name}`,
		body: isStream ? enveloped(json) : json,
		key: side.key,
		// A stream's error repeats its correlation id in the body.
		headers: { 'x-correlation-id': 'matrix', ...(isStream ? { 'content-type': 'application/connect+json' } : {}) },
	});
}

/** The reason of a refusal, `OK` for none; of a stream, that of its end. */
export function reasonOf(answer: RawAnswer): string {
	const text = answer.body.toString('latin1');
	const isRefused = answer.status !== 200 || text.includes('"error"') || text.startsWith('{"reason"');
	if (!isRefused) return 'OK';
	return /"reason":"([A-Z_]+)"/.exec(text)?.[1] ?? `HTTP ${answer.status} ${text.slice(0, 200)}`;
}

export function codeOf(answer: RawAnswer): string {
	const text = answer.body.toString('latin1');
	return /"code":"([a-z_]+)"/.exec(text)?.[1] ?? (answer.status >= 500 ? 'HTTP 5' : '');
}
