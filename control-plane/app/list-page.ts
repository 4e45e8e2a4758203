import type { DescMessage, MessageShape } from '@bufbuild/protobuf';
import { digestOf, type PageBinding, type PageTokens } from './paging.ts';
import type { Call } from './use-case.ts';

/** The page of a list request: its size within limits, and where its token says to go on. */
export interface ListPage {
	readonly afterId: string;
	readonly limit: number;
	readonly pages: PageTokens;
	readonly binding: PageBinding;
}

type PagedRequest<D extends DescMessage> = MessageShape<D> & { readonly pageSize: number; readonly pageToken: string };

/** Throws PAGE_TOKEN_INVALID. */
export function pageOf<D extends DescMessage>(call: Call<PagedRequest<D>>, desc: D): ListPage {
	const { deps, ctx, request } = call;
	const { pageSizeDefault, pageSizeMax } = deps.limits;
	const limit = Math.min(request.pageSize === 0 ? pageSizeDefault : request.pageSize, pageSizeMax);
	const filterSha256 = digestOf(desc, request, ['pageSize', 'pageToken']);
	const binding: PageBinding = { principalId: ctx.actor.id, method: ctx.method, filterSha256 };
	return { afterId: deps.pages.open(binding, request.pageToken), limit, pages: deps.pages, binding };
}

/** Empty when this was the last page. A page that is exactly full gets a token, which may lead to an empty page. */
export function nextPageToken(page: ListPage, lastId: string | undefined, count: number): string {
	return lastId === undefined || count < page.limit ? '' : page.pages.seal(page.binding, lastId);
}
