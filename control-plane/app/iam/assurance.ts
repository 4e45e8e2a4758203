import type { ActorKind, Assurance } from '../../context.ts';

/**
 * The assurance gate (RFC 9470). A person is stepped up while their login is strong enough and recent enough: both, since
 * a session keeps its strength long after the second factor was shown. The bootstrap operator's key counts too: it was
 * read from a file of mode 0600 on the control plane's own host, and it dies at the first owner's login. Keys of people
 * and service accounts never step up; a two-person approval stands in for those.
 */
export function isSteppedUp(
	actor: { readonly kind: ActorKind; readonly assurance?: Assurance },
	nowMs: number,
): boolean {
	if (actor.kind === 'operator') return true;
	return actor.kind === 'user' && actor.assurance !== undefined && nowMs < actor.assurance.strongUntilMs;
}
