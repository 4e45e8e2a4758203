import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import { Code, ConnectError } from '@connectrpc/connect';
import type { AuthRequest, AuthRoutes } from './auth-routes.ts';

/** One request to the login pages, off and onto the wire of HTTP/1 and HTTP/2. Never rejects. */
export async function answerAuth(
	auth: AuthRoutes,
	request: IncomingMessage | Http2ServerRequest,
	response: ServerResponse | Http2ServerResponse,
	from: Pick<AuthRequest, 'peer' | 'gate'>,
): Promise<void> {
	const header = (name: string) => {
		const sent = request.headers[name];
		return Array.isArray(sent) ? sent.join('; ') : (sent ?? null);
	};
	// A target that makes no URL is no page of ours.
	const target = request.url ?? '/';
	const url = new URL(URL.canParse(target, OWN) ? target : '/auth/', OWN);
	const body = (bytesMax: number) => boundedBody(request, bytesMax);
	const { status, headers, json } = await auth.handle({ method: request.method ?? '', url, header, ...from, body });
	response.statusCode = status;
	for (const [name, value] of Object.entries(headers ?? {}))
		response.setHeader(name, typeof value === 'string' ? value : [...value]);
	if (json !== undefined) response.setHeader('content-type', 'application/json');
	const end: (text: string) => unknown = response.end.bind(response);
	end(json === undefined ? '' : JSON.stringify(json));
}

const OWN = 'https://own.invalid';

async function boundedBody(request: IncomingMessage | Http2ServerRequest, bytesMax: number): Promise<string> {
	const parts: Buffer[] = [];
	let size = 0;
	for await (const part of request as AsyncIterable<Buffer>) {
		size += part.length;
		if (size > bytesMax) throw new ConnectError('the body is too large', Code.ResourceExhausted);
		parts.push(part);
	}
	return Buffer.concat(parts).toString('utf8');
}
