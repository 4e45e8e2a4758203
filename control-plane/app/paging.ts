import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { DescMessage, JsonValue, MessageShape } from '@bufbuild/protobuf';
import { toJson } from '@bufbuild/protobuf';
import { GpuaasError } from '../../kit/error.ts';

/**
 * Page tokens (AIP-158): where the next page starts, signed so that nobody can make one, and bound to the principal,
 * the method and the filter that it was made for. Stateless: any replica with the same key takes it.
 */
export class PageTokens {
	readonly #key: Uint8Array;

	/** `key`: 32 secret bytes, the same on every replica (PepperRing.derive). */
	constructor(key: Uint8Array) {
		this.#key = key;
	}

	seal(binding: PageBinding, cursor: string): string {
		const body = Buffer.from(cursor, 'utf8').toString('base64url');
		return `${body}.${this.#sign(binding, body).toString('base64url')}`;
	}

	/** The cursor; empty for an empty token. Throws PAGE_TOKEN_INVALID. */
	open(binding: PageBinding, token: string): string {
		if (token === '') return '';
		const [body = '', signature = '', ...rest] = token.split('.');
		const given = Buffer.from(signature, 'base64url');
		const expected = this.#sign(binding, body);
		if (rest.length > 0 || given.length !== expected.length || !timingSafeEqual(given, expected)) throw invalid();
		return Buffer.from(body, 'base64url').toString('utf8');
	}

	#sign(binding: PageBinding, body: string): Buffer {
		const mac = createHmac('sha256', this.#key);
		// Length-prefixed: no two bindings give the same bytes.
		for (const part of [binding.principalId, binding.method, binding.filterSha256, body])
			mac.update(`${part.length}:${part}`);
		return mac.digest().subarray(0, 16);
	}
}

export interface PageBinding {
	readonly principalId: string;
	readonly method: string;
	/** `digestOf` the request without its page fields. */
	readonly filterSha256: string;
}

/** Hex SHA-256 of a message's canonical JSON, so that the order of map entries on the wire doesn't matter. */
export function digestOf<D extends DescMessage>(desc: D, message: MessageShape<D>, without: readonly string[]): string {
	return createHash('sha256')
		.update(canonicalText(desc, message, without))
		.digest('hex');
}

/** A message's JSON with every field and sorted keys. */
export function canonicalText<D extends DescMessage>(
	desc: D,
	message: MessageShape<D>,
	without: readonly string[],
): string {
	const json = toJson(desc, message, { alwaysEmitImplicit: true });
	const fields = typeof json === 'object' && json !== null && !Array.isArray(json) ? { ...json } : {};
	for (const name of without) delete fields[name];
	return canonical(fields);
}

function canonical(value: JsonValue): string {
	if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
	if (typeof value !== 'object' || value === null) return JSON.stringify(value);
	const entries = Object.entries(value).sort(([left], [right]) => (left < right ? -1 : 1));
	return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${canonical(item)}`).join(',')}}`;
}

function invalid(): GpuaasError {
	return new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'PAGE_TOKEN_INVALID',
		message:
			'the page token was not made for this caller, method and filter; ask for the first page again and use its token unchanged',
	});
}
