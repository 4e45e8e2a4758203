import { request } from 'node:https';
import type { ApiWorld } from './api-world.ts';

/** What came back, byte for byte, by plain HTTP/1.1: no client library may smooth anything over. */
export interface RawAnswer {
	readonly status: number;
	readonly headers: Readonly<Record<string, string | string[] | undefined>>;
	readonly body: Buffer;
}

export interface RawCall {
	/** `/gpuaas.nodes.v1.NodeService/GetNode`. */
	readonly path: string;
	readonly body: string | Buffer;
	readonly key?: string | undefined;
	readonly headers?: Readonly<Record<string, string>>;
	readonly method?: string;
	/** The caller's own address, on loopback. */
	readonly from?: string;
}

export function rawCall(world: Pick<ApiWorld, 'server' | 'rootPem'>, call: RawCall): Promise<RawAnswer> {
	return new Promise((resolve, reject) => {
		const { port } = world.server.address;
		const headers = {
			'content-type': 'application/json',
			...(call.key === undefined ? {} : { authorization: `Bearer ${call.key}` }),
			...call.headers,
		};
		const options = {
			host: '127.0.0.1',
			port,
			path: call.path,
			method: call.method ?? 'POST',
			headers,
			ca: world.rootPem,
			...(call.from === undefined ? {} : { localAddress: call.from }),
		};
		const sent = request(options, (response) => {
			const parts: Buffer[] = [];
			response.on('data', (part: Buffer) => parts.push(part));
			response.on('error', reject);
			response.on('end', () =>
				resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(parts) }),
			);
		});
		sent.on('error', reject);
		sent.end(call.body);
	});
}

/** A streaming call's one request message, in its envelope. */
export function enveloped(json: string): Buffer {
	const body = Buffer.from(json);
	const head = Buffer.alloc(5);
	head.writeUInt32BE(body.length, 1);
	return Buffer.concat([head, body]);
}

/** Without what differs between any two answers. */
export function comparable(answer: RawAnswer): string {
	const { date: _date, 'x-correlation-id': _id, ...headers } = answer.headers;
	return JSON.stringify({ status: answer.status, headers, body: answer.body.toString('base64') });
}
