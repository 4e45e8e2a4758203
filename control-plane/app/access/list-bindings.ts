import { create } from '@bufbuild/protobuf';
import {
	AccessService,
	ListBindingsRequestSchema,
	ListBindingsResponseSchema,
} from '../../../proto/gen/gpuaas/iam/v1/access_pb.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { assertHome } from '../principals/named.ts';
import { query } from '../use-case.ts';
import { bindingMessage } from './binding-view.ts';

/** By id, at exactly one scope, ended ones too while they are there. */
export const listBindings = query('scope', AccessService.method.listBindings, {
	*read(tx, call, target) {
		const page = pageOf(call, ListBindingsRequestSchema);
		const rows = yield* tx.access.listBindingsAt({ ...page, scopes: [assertHome(call.policy, target).name] });
		const people = yield* tx.identities.getPrincipals([...new Set(rows.map(({ principalId }) => principalId))]);
		return { rows, people: new Map(people.map((row) => [row.id, row])), page };
	},
	answer: (_call, { rows, people, page }) =>
		create(ListBindingsResponseSchema, {
			bindings: rows.map((row) => bindingMessage(row, people.get(row.principalId))),
			nextPageToken: nextPageToken(page, rows.at(-1)?.id, rows.length),
		}),
});
