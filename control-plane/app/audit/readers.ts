import type { Visibility } from '../../store/port/scopes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';

/**
 * What of the audit log somebody reads. A record belongs to an organization as a whole, so it takes the permission at the
 * organization itself: at one of its projects it gives nothing.
 */
export interface Readers {
	/** Null: all records, also those of no organization. */
	readonly organizations: readonly string[] | null;
	/** The ids of those records whose actor's name and address the reader may know; undefined: all. */
	known(tx: Tx, records: readonly Acted[]): Plan<ReadonlySet<string> | undefined>;
}

export interface Acted {
	readonly id: string;
	readonly organization: string | null;
	readonly actorIsOwn: number | null;
	readonly actor: { readonly kind: string; readonly id: string };
}

/** `asked`: only of this organization; empty: of all that may be read. */
export function readableTo(visibility: Visibility, asked: string): Readers {
	// Whatever a tenant's guardrails forbid below, the platform reads its whole log.
	if (visibility.all || visibility.unowned) return { organizations: asked === '' ? null : [asked], known: everybody };
	const own = organizationsIn(visibility.grants, visibility.denials);
	return { organizations: asked === '' ? own : own.filter((id) => id === asked), known: ownPeople };
}

/** The ids of `/acme/` and such. Who is denied above or at it reads nothing of it. */
function organizationsIn(grants: readonly string[], denials: readonly string[]): readonly string[] {
	return grants
		.filter((path) => path.split('/').length === 3 && path !== '//')
		.filter((path) => !denials.some((denied) => path.startsWith(denied)))
		.map((path) => path.split('/')[1] ?? '');
}

function* everybody(): Plan<undefined> {
	return undefined;
}

/** Who works for the platform is the platform's own business: named are an organization's members and service accounts. */
function* ownPeople(tx: Tx, records: readonly Acted[]): Plan<ReadonlySet<string>> {
	const named = new Set<string>();
	const belongsNow = new Map<string, boolean>();
	for (const { id, organization, actor, actorIsOwn } of records) {
		if (organization === null) continue;
		if (actorIsOwn !== null) {
			if (actorIsOwn === 1) named.add(id);
			continue;
		}
		// Of records from before that was kept: by who belongs there now.
		const key = `${organization} ${actor.id}`;
		const known = belongsNow.get(key) ?? (yield* isOf(tx, organization, actor));
		belongsNow.set(key, known);
		if (known) named.add(id);
	}
	return named;
}

function* isOf(tx: Tx, organization: string, { kind, id }: Acted['actor']): Plan<boolean> {
	// A part of ours, or a node that the record is about: it has no name that needs hiding.
	if (kind === 'system' || kind === 'node') return true;
	if ((yield* tx.identities.getMember(organization, id)) !== undefined) return true;
	return (yield* tx.identities.getPrincipal(id))?.organization === organization;
}
