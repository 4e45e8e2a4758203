import { request as httpsRequest, type RequestOptions } from 'node:https';
import { assert } from '../../kit/assert.ts';
import type { LoginWorld, Person } from './login-world.ts';

interface Answer {
	readonly status: number;
	readonly location: string;
	readonly cookies: readonly string[];
	readonly body: string;
}

/** A browser's tab: its cookies are ours to see; TLS, redirects and answers are real. */
export class Tab {
	readonly #world: Pick<LoginWorld, 'api'>;
	readonly #origin: string;
	cookies: Record<string, string> = {};
	/** What the access proxy in front adds to each request. */
	added: Record<string, string> = {};

	constructor(world: Pick<LoginWorld, 'api'>, origin: string) {
		this.#world = world;
		this.#origin = origin;
	}

	send(
		path: string,
		options: { method?: string; headers?: Record<string, string>; body?: string } = {},
	): Promise<Answer> {
		const cookie = Object.entries(this.cookies)
			.map(([name, value]) => `${name}=${value}`)
			.join('; ');
		const headers = { ...(cookie === '' ? {} : { cookie }), ...this.added, ...options.headers };
		const target: RequestOptions = {
			host: '127.0.0.1',
			port: this.#world.api.server.address.port,
			path,
			method: options.method ?? 'GET',
			headers,
			ca: this.#world.api.rootPem,
		};
		return new Promise((resolve, reject) => {
			const sent = httpsRequest(target, (response) => {
				let body = '';
				response.setEncoding('utf8').on('data', (part: string) => {
					body += part;
				});
				response.on('end', () => {
					const cookies = response.headers['set-cookie'] ?? [];
					for (const set of cookies) {
						const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(set) ?? [];
						if (value === '') delete this.cookies[name];
						else this.cookies[name] = value;
					}
					resolve({ status: response.statusCode ?? 0, location: response.headers.location ?? '', cookies, body });
				});
			});
			sent.on('error', reject);
			sent.end(options.body);
		});
	}

	/** From the login page to the answer that comes back, unvisited. */
	async answer(person: Person, query = ''): Promise<string> {
		const begun = await this.send(`/auth/login${query}`);
		assert(begun.status === 303, `login begins: ${begun.status} ${begun.body}`);
		const end = await person.browser.follow(begun.location, person.user, (url) => url.startsWith(this.#origin));
		return end.slice(this.#origin.length);
	}

	async logIn(person: Person, query = ''): Promise<Answer> {
		return await this.send(await this.answer(person, query));
	}

	call(path: string, csrf?: string): Promise<Answer> {
		const headers = { 'content-type': 'application/json', ...(csrf === undefined ? {} : { 'x-csrf-token': csrf }) };
		return this.send(path, { method: 'POST', headers, body: '{}' });
	}

	async csrf(): Promise<string> {
		return (JSON.parse((await this.send('/auth/session')).body) as { csrfToken: string }).csrfToken;
	}
}
