import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface ScimUser {
	readonly id: string;
	readonly userName: string;
	readonly externalId?: string;
	readonly active?: boolean;
}

/** A SCIM 2.0 service provider over HTTP with what a directory is asked (RFC 7644: 3.4.2 with `eq` filters, 3.12 errors). */
export class ScimServer implements AsyncDisposable {
	static readonly token = 'scim-token-of-the-test';
	readonly users = new Map<string, ScimUser>();
	/** As some servers do. */
	ignoresFilters = false;
	/** What stands in front of it instead. */
	replacement: { readonly status: number; readonly body: string } | undefined;
	readonly asked: string[] = [];
	readonly #server: Server;

	private constructor() {
		this.#server = createServer((request, response) => this.#answer(request, response));
	}

	static async start(): Promise<ScimServer> {
		const made = new ScimServer();
		await new Promise<void>((resolve) => made.#server.listen(0, '127.0.0.1', resolve));
		return made;
	}

	get url(): string {
		return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/scim/v2`;
	}

	#answer(request: IncomingMessage, response: ServerResponse): void {
		const url = new URL(request.url ?? '/', 'http://localhost');
		this.asked.push(url.pathname + url.search);
		const send = (status: number, document: object) => {
			response.writeHead(status, { 'content-type': 'application/scim+json' });
			response.end(JSON.stringify(document));
		};
		const refuse = (status: number, scimType?: string) =>
			send(status, { schemas: ['urn:ietf:params:scim:api:messages:2.0:Error'], status: String(status), scimType });
		if (this.replacement !== undefined) {
			response.writeHead(this.replacement.status, { 'content-type': 'text/html' });
			response.end(this.replacement.body);
			return;
		}
		if (request.headers.authorization !== `Bearer ${ScimServer.token}`) {
			refuse(401);
			return;
		}
		if (request.method !== 'GET' || url.pathname !== '/scim/v2/Users') {
			refuse(404);
			return;
		}
		const found = this.#found(url.searchParams.get('filter'));
		if (found === undefined) {
			refuse(400, 'invalidFilter');
			return;
		}
		const count = Number(url.searchParams.get('count') ?? found.length);
		const Resources = found
			.slice(0, count)
			.map((user) => ({ schemas: ['urn:ietf:params:scim:schemas:core:2.0:User'], ...user }));
		send(200, {
			schemas: ['urn:ietf:params:scim:api:messages:2.0:ListResponse'],
			totalResults: found.length,
			startIndex: 1,
			itemsPerPage: Resources.length,
			...(Resources.length === 0 ? {} : { Resources }),
		});
	}

	#found(filter: string | null): readonly ScimUser[] | undefined {
		const all = [...this.users.values()];
		if (filter === null || this.ignoresFilters) return all;
		const match = /^(id|userName|externalId) eq (".*")$/.exec(filter);
		if (match === null) return undefined;
		const [, attribute = '', text = ''] = match;
		const wanted: unknown = JSON.parse(text);
		return all.filter((user) => {
			const value: unknown = Reflect.get(user, attribute);
			if (attribute !== 'userName') return value === wanted;
			return String(value).toLowerCase() === String(wanted).toLowerCase();
		});
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#server.closeAllConnections();
		await new Promise((resolve) => this.#server.close(resolve));
	}
}
