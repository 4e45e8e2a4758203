import { create } from '@bufbuild/protobuf';
import { GpuaasError } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import {
	CreateGroupResponseSchema,
	CreateServiceAccountResponseSchema,
	PrincipalService,
} from '../../../proto/gen/gpuaas/iam/v1/principals_pb.ts';
import type { PrincipalRow } from '../../store/port/identities.ts';
import type { ScopeRow } from '../../store/port/scopes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { Gate } from '../gates.ts';
import { changed } from '../iam/change.ts';
import { checkedDisplayName } from '../iam/display-name.ts';
import { assertRoomFor } from '../iam/room.ts';
import type { Call } from '../use-case.ts';
import { mutation } from '../use-case.ts';
import { assertHome } from './named.ts';
import { principalMessage, principalName } from './view.ts';

/** A group holds roles for its members. */
export const createGroup = mutation('scope', PrincipalService.method.createGroup, {
	gates: [roomFor('group')],
	prepare: prepared,
	*apply(tx, call, target, made) {
		const row = yield* insertPrincipal(tx, call, assertHome(call.policy, target), 'group', made);
		const response = create(CreateGroupResponseSchema, { principal: principalMessage(row) });
		return changed(response, 'groups.create', principalName(row), row.organization ?? '');
	},
});

/** A service account is a program's own identity; its maker answers for it. */
export const createServiceAccount = mutation('scope', PrincipalService.method.createServiceAccount, {
	gates: [roomFor('service_account')],
	prepare: prepared,
	*apply(tx, call, target, made) {
		const row = yield* insertPrincipal(tx, call, assertHome(call.policy, target), 'service_account', made);
		const response = create(CreateServiceAccountResponseSchema, { principal: principalMessage(row) });
		return changed(response, 'serviceaccounts.create', principalName(row), row.organization ?? '');
	},
});

/** Throws TOO_MANY_GROUPS, TOO_MANY_SERVICE_ACCOUNTS. */
function roomFor(kind: 'group' | 'service_account'): Gate<'scope'> {
	return {
		gate: 'room',
		*check(tx, { target, policy }) {
			const { organization } = assertHome(policy, target);
			return assertRoomFor(kind, yield* tx.identities.countNamed(organization, kind));
		},
	};
}

interface Asked {
	readonly id: string;
	readonly displayName: string;
}

interface Made {
	readonly id: string;
	readonly displayName: string;
}

function prepared({ deps, nowMs, request }: Call<Asked>): Made {
	return { id: uuidv7(nowMs, deps.rng), displayName: checkedDisplayName(request.displayName).displayName };
}

function* insertPrincipal(
	tx: Tx,
	{ request, nowMs, ctx }: Call<Asked>,
	home: ScopeRow,
	kind: 'group' | 'service_account',
	{ id, displayName }: Made,
): Plan<PrincipalRow> {
	if ((yield* tx.identities.getByName(home.organization, kind, request.id)) !== undefined) throw taken();
	const row: PrincipalRow = {
		id,
		kind,
		displayName,
		organization: home.organization,
		home: home.name,
		name: request.id,
		email: '',
		ownerId: kind === 'service_account' ? ctx.actor.id : null,
		createdAtMs: nowMs,
		disabledAtMs: null,
		disabledReason: '',
		deletedAtMs: null,
		version: 1,
	};
	yield* tx.identities.insertPrincipal(row);
	return row;
}

function taken(): GpuaasError {
	return new GpuaasError({
		code: 'ALREADY_EXISTS',
		reason: 'PRINCIPAL_NAME_TAKEN',
		message: 'the organization has one of that id already; choose another',
	});
}
