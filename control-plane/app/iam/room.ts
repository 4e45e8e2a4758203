import { GpuaasError } from '../../../kit/error.ts';

/**
 * How many of a kind an organization, or a person, may have at a time. Every one is looked at somewhere by everybody's
 * decisions, and shown in lists that people read; a program that makes them without end is stopped before either suffers.
 * Judged in the unit that makes one more, which holds the policy: two at once are one after the other.
 */
interface Limit {
	readonly max: number;
	readonly reason: string;
	readonly rule: string;
	/** What to do. */
	readonly advice: string;
}

const limit = (max: number, reason: string, rule: string, advice: string): Limit =>
	Object.freeze({ max, reason, rule: `${rule} at most ${max}`, advice });

export const ROOM_OF = Object.freeze({
	group: limit(
		1000,
		'TOO_MANY_GROUPS',
		'groups of an organization are',
		'Delete one first, or put its members into another',
	),
	service_account: limit(
		1000,
		'TOO_MANY_SERVICE_ACCOUNTS',
		'service accounts of an organization are',
		'Delete one first; one account can have a key for each program that it is for',
	),
	role: limit(200, 'TOO_MANY_ROLES', 'custom roles of an organization are', 'Delete one first, or use a built-in role'),
	invitation: limit(
		1000,
		'TOO_MANY_INVITATIONS',
		'open invitations of an organization are',
		'Revoke some, or wait until they are accepted or end',
	),
	ownKey: limit(100, 'TOO_MANY_KEYS', 'living keys of a person are', 'Revoke one first, or rotate it'),
});

/** What a gate says of room; throws RESOURCE_EXHAUSTED with the kind's reason where there is none. */
export function assertRoomFor(kind: keyof typeof ROOM_OF, have: number): string {
	const { max, reason, rule, advice } = ROOM_OF[kind];
	if (have < max) return 'there is room for one more';
	throw new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason,
		message: `${rule}, and there are ${have}; nothing was made. ${advice}`,
		metadata: { limit: String(max) },
	});
}
