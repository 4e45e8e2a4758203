import type { Clock } from '../../../kit/clock.ts';
import type { Directory } from '../../app/login/directory.ts';
import { cutBy, type Fetch, getJson, issuerUnavailable } from './fetch-json.ts';

/** Where the subject of a token stands in the provider's SCIM resources. */
export type ScimSubject = 'externalId' | 'id' | 'userName';

export interface ScimDirectorySettings {
	/** Of the tokens of these people. */
	readonly issuer: string;
	/** Base of the service provider: `https://id.example/scim/v2` */
	readonly url: string;
	readonly token: string;
	readonly subject: ScimSubject;
}

const LIST_RESPONSE = 'urn:ietf:params:scim:api:messages:2.0:ListResponse';

/**
 * Any provider that serves SCIM 2.0 (RFC 7644), for one question: is this subject active? It is asked by a filter, and only
 * an answer that is about that very subject counts: a server that ignores filters, or one that shows nobody at all, is not
 * believed.
 */
export class ScimDirectory implements Directory {
	readonly issuers: readonly string[];
	readonly #settings: ScimDirectorySettings;
	readonly #clock: Clock;
	readonly #fetch: Fetch;

	constructor(settings: ScimDirectorySettings, clock: Clock, fetch: Fetch = globalThis.fetch) {
		this.issuers = [settings.issuer];
		this.#settings = settings;
		this.#clock = clock;
		this.#fetch = fetch;
	}

	async statusOf(_issuer: string, subject: string, signal?: AbortSignal): Promise<'active' | 'disabled' | 'gone'> {
		const fetch = cutBy(signal, this.#fetch);
		const attribute = this.#settings.subject;
		// Values are JSON strings (section 3.4.2.2). Two are asked for, to see that there is only one.
		const found = await this.#users({ filter: `${attribute} eq ${JSON.stringify(subject)}`, count: '2' }, fetch);
		if (found.total === 0) {
			await this.#assertShowsSomebody(fetch);
			return 'gone';
		}
		const [user] = found.users;
		if (found.total !== 1 || user === undefined || !isSame(attribute, field(user, attribute), subject))
			throw this.#unusable('it answered about somebody else; it must support filters');
		const active = field(user, 'active');
		// Optional (RFC 7643 section 4.1.1): without it nobody is said to have been disabled.
		if (active === undefined || active === true) return 'active';
		if (active === false) return 'disabled';
		throw this.#unusable('`active` is neither true nor false');
	}

	/** A directory that was emptied, or whose token sees nobody, knows of nobody's leaving. */
	async #assertShowsSomebody(fetch: Fetch): Promise<void> {
		const { total } = await this.#users({ count: '1' }, fetch);
		if (total === 0) throw this.#unusable('it shows nobody at all; does its token see the users?');
	}

	async #users(
		query: Readonly<Record<string, string>>,
		fetch: Fetch,
	): Promise<{ readonly total: number; readonly users: readonly unknown[] }> {
		const url = `${this.#settings.url}/Users?${new URLSearchParams(query)}`;
		const headers = {
			accept: 'application/scim+json, application/json',
			authorization: `Bearer ${this.#settings.token}`,
		};
		const { status, body } = await getJson(url, this.#clock, fetch, headers);
		const [schemas, total, users] = [field(body, 'schemas'), field(body, 'totalResults'), field(body, 'Resources')];
		const isList = Array.isArray(schemas) && schemas.includes(LIST_RESPONSE) && typeof total === 'number';
		if (status !== 200 || !isList || (total > 0 && !Array.isArray(users))) throw this.#unusable(`HTTP ${status}`);
		return { total, users: Array.isArray(users) ? users : [] };
	}

	#unusable(why: string): Error {
		const { url } = this.#settings;
		return issuerUnavailable(`the directory ${url} gave no usable answer (${why})`);
	}
}

/** User names are compared without case (RFC 7643 section 4.1.1), the others with. */
function isSame(attribute: ScimSubject, value: unknown, subject: string): boolean {
	if (typeof value !== 'string') return false;
	return attribute === 'userName' ? value.toLowerCase() === subject.toLowerCase() : value === subject;
}

function field(body: unknown, name: string): unknown {
	return typeof body === 'object' && body !== null ? Reflect.get(body, name) : undefined;
}
