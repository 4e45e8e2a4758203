import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { messageOf } from '../../../kit/error.ts';

/** One POST to a receiver of telemetry. Rejects when no answer came. */
export type Post = (body: Uint8Array, signal: AbortSignal) => Promise<PostAnswer>;

export interface PostAnswer {
	readonly status: number;
	/** 0: the receiver didn't say. */
	readonly retryAfterMs: number;
	/** The beginning of the body, for the log. */
	readonly text: string;
}

export interface PostOptions {
	readonly url: URL;
	readonly headers: Readonly<Record<string, string>>;
	/** Sent as a bearer token; from a file, never from argv. */
	readonly bearerToken?: string;
	/** Roots to trust in place of the system's. */
	readonly caPem?: string;
}

/** A receiver that is slower than this is down: samples would pile up behind it. */
const TIMEOUT_MS = 30_000;
const TEXT_MAX = 512;

export function createPost({ url, headers, bearerToken, caPem }: PostOptions): Post {
	const isTls = url.protocol === 'https:';
	const agent = isTls
		? new HttpsAgent({
				keepAlive: true,
				maxSockets: 1,
				minVersion: 'TLSv1.2',
				...(caPem === undefined ? {} : { ca: caPem }),
			})
		: new HttpAgent({ keepAlive: true, maxSockets: 1 });
	const authorization = bearerToken === undefined ? {} : { authorization: `Bearer ${bearerToken}` };
	return (body, signal) =>
		new Promise((resolve, reject) => {
			const sent = (isTls ? httpsRequest : httpRequest)(
				url,
				{
					method: 'POST',
					agent,
					signal,
					timeout: TIMEOUT_MS,
					headers: { 'user-agent': 'gpuaas', ...headers, ...authorization, 'content-length': body.length },
				},
				(answer) => void read(answer).then(resolve, reject),
			);
			sent.on('timeout', () => sent.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
			sent.on('error', (error) => reject(new Error(messageOf(error), { cause: error })));
			sent.end(body);
		});
}

async function read(answer: IncomingMessage): Promise<PostAnswer> {
	let text = '';
	for await (const chunk of answer) if (text.length < TEXT_MAX) text += String(chunk);
	const seconds = Number(answer.headers['retry-after'] ?? '0');
	return {
		status: answer.statusCode ?? 0,
		retryAfterMs: Number.isFinite(seconds) && seconds > 0 ? seconds * 1000 : 0,
		text: text.slice(0, TEXT_MAX),
	};
}
