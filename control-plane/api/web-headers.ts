import type { IncomingMessage } from 'node:http';
import type { Http2ServerRequest } from 'node:http2';

/** The headers of a request as the framework wants them. */
export function webHeaders({ headers }: IncomingMessage | Http2ServerRequest): Headers {
	const web = new Headers();
	for (const [name, value] of Object.entries(headers)) {
		if (name.startsWith(':') || value === undefined) continue;
		for (const one of Array.isArray(value) ? value : [value]) web.append(name, one);
	}
	return web;
}
