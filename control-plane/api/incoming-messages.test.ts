import { once } from 'node:events';
import { connect, createServer, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import type { DescMethod } from '@bufbuild/protobuf';
import { createMethodSerializationLookup } from '@connectrpc/connect/protocol';
import { expect, it } from 'vitest';
import { TerminalService } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { IncomingMessages } from './incoming-messages.ts';

/** As the framework's handlers see it. */
const method: DescMethod = TerminalService.method.attachTerminal;

it('whoever ended their side before anybody read has sent nothing, and is not waited for', async () => {
	const server = createServer();
	server.listen(0, '127.0.0.1');
	await once(server, 'listening');
	const session = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
	try {
		const came = once(server, 'stream');
		session.request({ ':method': 'POST' }).end();
		const [stream] = (await came) as [ServerHttp2Stream];
		if (!stream.readableEnded) await once(stream, 'end');
		const limits = { readMaxBytes: 1000, writeMaxBytes: 1000 };
		const lookup = createMethodSerializationLookup(method, undefined, undefined, limits);
		const incoming = new IncomingMessages(stream, lookup.getI(true), 1000);
		expect(await incoming.next()).toEqual({ done: true, value: undefined });
	} finally {
		session.destroy();
		server.close();
	}
});
