import { create } from '@bufbuild/protobuf';
import {
	DeleteGroupResponseSchema,
	DeleteServiceAccountResponseSchema,
	PrincipalService,
} from '../../../proto/gen/gpuaas/iam/v1/principals_pb.ts';
import type { PrincipalRow } from '../../store/port/identities.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { changed } from '../iam/change.ts';
import { assertEtag } from '../iam/etag.ts';
import { revokeAllKeys } from '../keys/counted.ts';
import { mutation } from '../use-case.ts';
import { namedPrincipal } from './named.ts';
import { principalName } from './view.ts';

export const deleteGroup = mutation('scope', PrincipalService.method.deleteGroup, {
	prepare: () => undefined,
	*apply(tx, { request, policy, nowMs }, target) {
		const group = yield* namedPrincipal(tx, policy, target, 'group');
		assertEtag(request.etag, group, 'group');
		yield* end(tx, group, nowMs);
		const response = create(DeleteGroupResponseSchema);
		return changed(response, 'groups.delete', principalName(group), group.organization ?? '', { id: group.id });
	},
});

/** Its keys are revoked, never orphaned. */
export const deleteServiceAccount = mutation('scope', PrincipalService.method.deleteServiceAccount, {
	prepare: () => undefined,
	*apply(tx, { request, policy, nowMs }, target) {
		const account = yield* namedPrincipal(tx, policy, target, 'service_account');
		assertEtag(request.etag, account, 'service account');
		yield* revokeAllKeys(tx, account.id, nowMs, 'its service account was deleted');
		yield* end(tx, account, nowMs);
		const response = create(DeleteServiceAccountResponseSchema);
		const organization = account.organization ?? '';
		return changed(response, 'serviceaccounts.delete', principalName(account), organization, { id: account.id });
	},
});

function* end(tx: Tx, { id, version }: PrincipalRow, nowMs: number): Plan<void> {
	for (const binding of yield* tx.access.listBindings([id])) yield* tx.access.deleteBinding(binding.id);
	yield* tx.identities.updatePrincipal(id, { deletedAtMs: nowMs }, version);
}
