import { createHash } from 'node:crypto';
import { clone, type DescMessage, type Message } from '@bufbuild/protobuf';
import { canonicalText } from '../paging.ts';
import { redactSecrets } from '../wire/redact-secrets.ts';

export interface ApprovedCall {
	readonly method: string;
	readonly input: DescMessage;
	readonly request: Message;
	readonly requesterId: string;
	readonly expiresAtMs: number;
}

/**
 * What an approval binds: method, canonical request, requester and end. The canonical request is its proto JSON with every
 * field and sorted keys, without `request_id`, which differs from try to try and changes nothing of what is done.
 */
export function approvalDigest({ method, input, request, requesterId, expiresAtMs }: ApprovedCall): Uint8Array {
	const bound = { v: 1, method, request: canonicalRequest(input, request), requesterId, expiresAtMs };
	return createHash('sha256').update(JSON.stringify(bound)).digest();
}

/** What the person who decides reads: the same, with its secrets blanked. */
export function readableRequest(input: DescMessage, request: Message): string {
	const copy = clone(input, request);
	redactSecrets(input, copy);
	return canonicalRequest(input, copy);
}

function canonicalRequest(input: DescMessage, request: Message): string {
	return canonicalText(input, request, ['requestId']);
}
