/**
 * The least of a browser: cookies, redirects, and filling in the forms of login pages, so that real providers are driven
 * through their real pages. No scripts; one origin's cookies are kept apart from another's.
 */
export interface Answers {
	readonly username: string;
	readonly password: string;
	/** Asked for when a page wants a one-time code. */
	readonly otp: () => string;
}

interface Form {
	readonly action: string;
	readonly method: string;
	readonly fields: Record<string, string>;
	readonly buttons: ReadonlySet<string>;
}

const STEPS_MAX = 30;

export class Browser {
	readonly #cookies = new Map<string, Map<string, string>>();
	/** What each page asked for: `password`, `otp`, `consent`. */
	readonly asked: string[] = [];

	/** Goes to `url`, logs in where a page asks, and gives the first address that `isEnd`, unvisited. */
	async follow(url: string, answers: Answers, isEnd: (url: string) => boolean): Promise<string> {
		const startedAt = this.asked.length;
		let next: { readonly url: string; readonly body?: string } = { url };
		for (let step = 0; step < STEPS_MAX; step += 1) {
			if (isEnd(next.url)) return next.url;
			const response = await this.send(next.url, next.body);
			const location = response.headers.get('location');
			if (location !== null) {
				next = { url: new URL(location, next.url).href };
				continue;
			}
			const page = await response.text();
			const form = formOf(page, next.url);
			if (form === undefined) throw new Error(`HTTP ${response.status}, no form and no redirect: ${plain(page)}`);
			next = this.#fill(form, answers, page);
			const lately = this.asked
				.slice(startedAt)
				.filter((what) => what !== 'consent')
				.slice(-3);
			if (lately.length === 3 && new Set(lately).size === 1) throw new Error(`refused three times: ${plain(page)}`);
		}
		throw new Error(`${STEPS_MAX} steps and still not there: ${next.url}`);
	}

	/** As `follow`, for pages that end by saying so. */
	async followToPage(url: string, answers: Answers): Promise<string> {
		let page = '';
		try {
			await this.follow(url, answers, () => false);
		} catch (error) {
			page = error instanceof Error ? error.message : String(error);
		}
		return page;
	}

	/** One request with this browser's cookies; redirects are not followed. `body` makes it a POST of a form. */
	async send(url: string, body?: string): Promise<Response> {
		const { origin } = new URL(url);
		const jar = this.#cookies.get(origin) ?? new Map<string, string>();
		this.#cookies.set(origin, jar);
		const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ');
		const response = await fetch(url, {
			redirect: 'manual',
			headers: {
				...(cookie === '' ? {} : { cookie }),
				...(body === undefined ? {} : { 'content-type': 'application/x-www-form-urlencoded' }),
			},
			...(body === undefined ? {} : { method: 'POST', body }),
		});
		for (const set of response.headers.getSetCookie()) {
			const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(set) ?? [];
			if (value === '' || /max-age=0/i.test(set) || /expires=Thu, 01.Jan.1970/i.test(set)) jar.delete(name);
			else jar.set(name, value);
		}
		return response;
	}

	/** As if the browser was closed. */
	forget(): void {
		this.#cookies.clear();
	}

	#fill(form: Form, answers: Answers, page: string): { url: string; body?: string } {
		const fields = { ...form.fields };
		const has = (name: string) => Object.hasOwn(form.fields, name);
		if (has('otp')) {
			this.asked.push('otp');
			fields.otp = answers.otp();
		} else if (has('password')) {
			this.asked.push('password');
			Object.assign(fields, { username: answers.username, password: answers.password });
		} else if (form.buttons.has('accept') || has('confirm') || has('user_code')) {
			this.asked.push('consent');
			if (form.buttons.has('accept')) fields.accept = 'Yes';
		} else throw new Error(`a form that nobody expected: ${plain(page)}`);
		const body = new URLSearchParams(fields).toString();
		return form.method === 'post' ? { url: form.action, body } : { url: `${form.action}?${body}` };
	}
}

function formOf(page: string, base: string): Form | undefined {
	const [, tag, inner = ''] = /<form([^>]*)>([\s\S]*?)<\/form>/i.exec(page) ?? [];
	if (tag === undefined) return undefined;
	const fields: Record<string, string> = {};
	const buttons = new Set<string>();
	for (const [input] of inner.matchAll(/<(?:input|button)[^>]*>/gi)) {
		const name = attribute(input, 'name');
		if (name === undefined) continue;
		if (attribute(input, 'type') === 'submit') buttons.add(name);
		else if (attribute(input, 'type') !== 'checkbox') fields[name] = attribute(input, 'value') ?? '';
	}
	const action = new URL(attribute(tag, 'action') ?? '', base).href;
	return { action, method: attribute(tag, 'method')?.toLowerCase() ?? 'get', fields, buttons };
}

function attribute(tag: string, name: string): string | undefined {
	const match = new RegExp(`\\s${name}\\s*=\\s*(?:"([^"]*)"|'([^']*)')`, 'i').exec(tag);
	return (match?.[1] ?? match?.[2])?.replaceAll('&amp;', '&').replaceAll('&#x3D;', '=');
}

function plain(page: string): string {
	return page
		.replaceAll(/<(script|style)[\s\S]*?<\/\1>/gi, '')
		.replaceAll(/<[^>]*>/g, ' ')
		.replaceAll(/\s+/g, ' ')
		.slice(0, 600);
}
