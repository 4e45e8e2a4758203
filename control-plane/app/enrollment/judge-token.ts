import type { JoinTokenRow } from '../../store/port/join-tokens.ts';
import type { NodeRow } from '../../store/port/nodes.ts';

/** Pure rules about join tokens, asked at Begin and again inside the unit of Complete. */
export type TokenVerdict =
	/** `replay`: the same key asks again, because the answer was lost. */
	| { readonly kind: 'ok'; readonly replay: boolean }
	| {
			readonly kind: 'refused';
			readonly reason: 'TOKEN_REVOKED' | 'TOKEN_EXPIRED' | 'TOKEN_USED' | 'TOKEN_WRONG_MACHINE';
			readonly message: string;
			/** The secret is where it should not be: nobody may use the token any more. */
			readonly burns: boolean;
	  };

export function judgeToken(
	token: JoinTokenRow,
	asked: { readonly spkiSha256: string; readonly serial: string; readonly nowMs: number },
): TokenVerdict {
	const next = 'create a new token';
	if (token.state === 'revoked') {
		return { kind: 'refused', reason: 'TOKEN_REVOKED', message: `the join token was revoked; ${next}`, burns: false };
	}
	if (asked.nowMs >= token.expiresAtMs) {
		const agoS = Math.floor((asked.nowMs - token.expiresAtMs) / 1000);
		const message = `the join token expired ${agoS} s ago by the control plane's clock; ${next}`;
		return { kind: 'refused', reason: 'TOKEN_EXPIRED', message, burns: false };
	}
	if (token.state === 'used' && token.usedBySpkiSha256 === asked.spkiSha256) return { kind: 'ok', replay: true };
	if (token.state !== 'unused') {
		const message = `the join token was used before, by another key; find out who has a copy of it, then ${next}`;
		return { kind: 'refused', reason: 'TOKEN_USED', message, burns: token.state === 'used' };
	}
	if (token.expectedSerial !== '' && !isSameSerial(token.expectedSerial, asked.serial)) {
		const message = `the join token is for another machine than the one with serial ${asked.serial || '(unreadable)'}; ${next} for this one`;
		return { kind: 'refused', reason: 'TOKEN_WRONG_MACHINE', message, burns: true };
	}
	return { kind: 'ok', replay: false };
}

/**
 * Which node an enrollment makes or takes over. An existing node is taken over (generation + 1, old certificates
 * denied) only when the operator's token says so: it names that node, or it is bound to that node's serial. A plain
 * token always makes a new node, whatever serial the host claims: serials are no secret.
 */
export type EnrollTarget =
	| { readonly kind: 'new' }
	| { readonly kind: 'existing'; readonly node: NodeRow }
	| { readonly kind: 'refused'; readonly reason: 'NODE_NAME_TAKEN' | 'NODE_LOCKED'; readonly message: string };

export function targetOf(
	token: JoinTokenRow,
	serial: string,
	nodes: { readonly byName: NodeRow | undefined; readonly bySerial: NodeRow | undefined },
): EnrollTarget {
	const byName = token.nodeName === '' ? undefined : nodes.byName;
	if (byName !== undefined && byName.serial !== '' && serial !== '' && !isSameSerial(byName.serial, serial)) {
		const message = `the token names node ${byName.name}, which is the machine with serial ${byName.serial}; remove that node first, or create a token with another name`;
		return { kind: 'refused', reason: 'NODE_NAME_TAKEN', message };
	}
	const bySerial = token.expectedSerial === '' ? undefined : nodes.bySerial;
	const node = byName ?? (bySerial?.state === 'retired' ? undefined : bySerial);
	if (node === undefined) return { kind: 'new' };
	if (node.locked) {
		const message = `node ${node.name} is locked (${node.lockReason}); look at it, unlock it, then enroll it again`;
		return { kind: 'refused', reason: 'NODE_LOCKED', message };
	}
	return { kind: 'existing', node };
}

function isSameSerial(one: string, other: string): boolean {
	return one.trim().toLowerCase() === other.trim().toLowerCase();
}
