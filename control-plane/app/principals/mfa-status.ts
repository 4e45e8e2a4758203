import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
	ListMfaStatusRequestSchema,
	ListMfaStatusResponseSchema,
	type MfaStatus,
	MfaStatusSchema,
	PrincipalService,
} from '../../../proto/gen/gpuaas/iam/v1/principals_pb.ts';
import type { PrincipalRow, UserIdentityRow } from '../../store/port/identities.ts';
import type { ScopeRow } from '../../store/port/scopes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { liveVersions } from '../keys/checks.ts';
import { type ListPage, nextPageToken, pageOf } from '../list-page.ts';
import { query } from '../use-case.ts';
import { assertHome } from './named.ts';

/**
 * How strongly people logged in last, as their tokens said: of an organization's members for whoever may list those, of
 * all users at the platform. Which provider they come from and which keys they have is the platform's to see: the same
 * person may belong to others.
 */
export const listMfaStatus = query('scope', PrincipalService.method.listMfaStatus, {
	*read(tx, call, target) {
		const page = pageOf(call, ListMfaStatusRequestSchema);
		const scope = assertHome(call.policy, target);
		const { people, lastId, count } = yield* peopleOf(tx, scope, page);
		const ids = people.map(({ id }) => id);
		const identities = yield* tx.identities.listUserIdentities(ids);
		const keys = scope.kind === 'platform' ? yield* liveKeysOf(tx, ids, call.nowMs) : undefined;
		return { people, identities, keys, page, lastId, count };
	},
	answer: (call, { people, identities, keys, page, lastId, count }) =>
		create(ListMfaStatusResponseSchema, {
			statuses: people.map((person) =>
				statusOf(person, newest(identities, person.id), call.deps.login.stepUpAcr, keys?.get(person.id)),
			),
			nextPageToken: nextPageToken(page, lastId, count),
		}),
});

interface People {
	readonly people: readonly PrincipalRow[];
	readonly lastId: string | undefined;
	/** Of the page, before those who are gone were left out. */
	readonly count: number;
}

function* peopleOf(tx: Tx, { kind, organization }: ScopeRow, page: ListPage): Plan<People> {
	if (kind === 'platform') {
		const people = yield* tx.identities.listPrincipals({ ...page, kind: 'user', home: null });
		return { people, lastId: people.at(-1)?.id, count: people.length };
	}
	const members = yield* tx.identities.listMembers({ ...page, organization });
	const rows = yield* tx.identities.getPrincipals(members.map(({ principalId }) => principalId));
	const byId = new Map(rows.map((row) => [row.id, row]));
	const people = members.flatMap(({ principalId }) => byId.get(principalId) ?? []).filter((row) => row.kind === 'user');
	return { people, lastId: members.at(-1)?.principalId, count: members.length };
}

/** Of one person; more is said as this many. */
const KEYS_COUNTED_MAX = 100;

function* liveKeysOf(tx: Tx, ids: readonly string[], nowMs: number): Plan<ReadonlyMap<string, number>> {
	const counts = new Map<string, number>();
	for (const id of ids) {
		const keys = yield* tx.apiKeys.list({ principalIds: [id], afterId: '', limit: KEYS_COUNTED_MAX });
		const versions = yield* tx.apiKeys.credentialsOf(keys.map((key) => key.id));
		counts.set(id, new Set(liveVersions(versions, nowMs).map(({ keyId }) => keyId)).size);
	}
	return counts;
}

function newest(identities: readonly UserIdentityRow[], principalId: string): UserIdentityRow | undefined {
	return identities
		.filter((identity) => identity.principalId === principalId)
		.toSorted((a, b) => (b.lastLoginAtMs ?? 0) - (a.lastLoginAtMs ?? 0))[0];
}

/** `liveKeys` undefined: seen from an organization. */
function statusOf(
	person: PrincipalRow,
	login: UserIdentityRow | undefined,
	strongAcr: readonly string[],
	liveKeys: number | undefined,
): MfaStatus {
	const at = login?.lastLoginAtMs ?? null;
	const isStrong = login !== undefined && login.lastAuthTimeMs !== null && strongAcr.includes(login.lastAcr);
	return create(MfaStatusSchema, {
		principalId: person.id,
		displayName: person.displayName,
		email: person.email,
		suspended: person.disabledAtMs !== null,
		state: at === null ? 'never' : isStrong ? 'strong' : 'weak',
		acr: login?.lastAcr ?? '',
		amr: login?.lastAmr.split(' ').filter((method) => method !== '') ?? [],
		...(at === null ? {} : { lastLoginAt: timestampFromMs(at) }),
		...(login === undefined || login.lastAuthTimeMs === null
			? {}
			: { authenticatedAt: timestampFromMs(login.lastAuthTimeMs) }),
		...(liveKeys === undefined ? {} : { issuer: login?.issuer ?? '', liveKeys }),
	});
}
