import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { GpuaasError } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import {
	CreateLoginDomainResponseSchema,
	DeleteLoginDomainResponseSchema,
	ListLoginDomainsRequestSchema,
	ListLoginDomainsResponseSchema,
	LoginDomainSchema,
	LoginService,
} from '../../../proto/gen/gpuaas/login/v1/login_pb.ts';
import type { LoginDomainRow } from '../../store/port/logins.ts';
import { assertMayLast } from '../break-glass/lasting.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { mutation, query } from '../use-case.ts';

export const createLoginDomain = mutation('platform', LoginService.method.createLoginDomain, {
	*apply(tx, { deps, ctx, request, nowMs }) {
		const { issuer, domain, organization } = request;
		assertMayLast(ctx.actor, 'a domain whose people come in');
		if (!deps.login.issuers.includes(issuer)) throw missing('this issuer is not configured here ([oidc] issuers)');
		const scope = yield* tx.scopes.get(`organizations/${organization}`);
		if (scope?.state !== 'active') throw missing('there is no such organization, or it is suspended');
		const row: LoginDomainRow = {
			id: uuidv7(nowMs, deps.rng),
			issuer,
			domain,
			organization,
			createdAtMs: nowMs,
			createdBy: ctx.actor.id,
		};
		yield* tx.logins.insertDomain(row);
		return {
			response: create(CreateLoginDomainResponseSchema, { loginDomain: message(row) }),
			audit: {
				action: 'logindomains.create',
				target: `login-domains/${row.id}`,
				organization,
				result: 'ok',
				reason: '',
				detail: { issuer, domain },
			},
		};
	},
});

export const listLoginDomains = query('platform', LoginService.method.listLoginDomains, {
	*read(tx, call) {
		const page = pageOf(call, ListLoginDomainsRequestSchema);
		return { rows: yield* tx.logins.listDomains(page), page };
	},
	answer: (_call, { rows, page }) =>
		create(ListLoginDomainsResponseSchema, {
			loginDomains: rows.map(message),
			nextPageToken: nextPageToken(page, rows.at(-1)?.id, rows.length),
		}),
});

export const deleteLoginDomain = mutation('platform', LoginService.method.deleteLoginDomain, {
	*apply(tx, { request }) {
		const row = yield* tx.logins.deleteDomain(request.id);
		if (row === undefined) {
			throw new GpuaasError({
				code: 'NOT_FOUND',
				reason: 'NOT_FOUND',
				message: 'there is no such login domain; list them to see their ids',
			});
		}
		const { organization, issuer, domain } = row;
		return {
			response: create(DeleteLoginDomainResponseSchema, {}),
			audit: {
				action: 'logindomains.delete',
				target: `login-domains/${row.id}`,
				organization,
				result: 'ok',
				reason: '',
				detail: { issuer, domain },
			},
		};
	},
});

function message({ id, issuer, domain, organization, createdAtMs }: LoginDomainRow) {
	return create(LoginDomainSchema, { id, issuer, domain, organization, createdAt: timestampFromMs(createdAtMs) });
}

function missing(why: string): GpuaasError {
	return new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'INVALID_REQUEST',
		message: `${why}; nothing was made`,
	});
}
