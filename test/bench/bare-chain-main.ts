/** One process of bare-chain.ts: `host`, `agent`, `relay` are children of the bench, `sink` is the command. */
import { spawn } from 'node:child_process';
import {
	connect as connectHttp2,
	createSecureServer,
	type Http2SecureServer,
	type IncomingHttpHeaders,
	type ServerHttp2Stream,
} from 'node:http2';
import { type AddressInfo, connect, createServer } from 'node:net';
import type { Duplex, Readable, Writable } from 'node:stream';
import { keepAlive } from '../../kit/clock.ts';
import { buffersCame } from '../../kit/young-garbage.ts';
import type { BareChainSettings, BareTls } from './bare-chain.ts';
import { serveParent } from './child.ts';

/** As those of channels and of the API. */
const STREAM_WINDOW_BYTES = 2 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES = 4 * 1024 * 1024;
const BYTES_HEADER = 'x-bytes';

const settings = JSON.parse(process.argv[2] ?? '{}') as BareChainSettings;

/** Node's own `pipe`, with what our processes do for the garbage collector. */
function pass(from: Readable, to: Writable): void {
	from.on('data', (chunk: Buffer) => buffersCame(chunk.length));
	from.on('error', (error) => to.destroy(error));
	to.on('error', (error) => from.destroy(error));
	from.pipe(to);
}

function tlsOf({ certPem, keyPem }: BareTls) {
	return { cert: certPem, key: keyPem, ca: certPem, ciphers: 'TLS_AES_128_GCM_SHA256', minVersion: 'TLSv1.3' } as const;
}

function ask(tls: BareTls, port: number, bytes: string): Duplex {
	const session = connectHttp2(`https://localhost:${port}`, {
		...tlsOf(tls),
		settings: { initialWindowSize: STREAM_WINDOW_BYTES },
	});
	session.once('connect', () => session.setLocalWindowSize(CONNECTION_WINDOW_BYTES));
	const stream = session.request({ ':method': 'POST', ':path': '/', [BYTES_HEADER]: bytes });
	stream.once('close', () => session.close());
	return stream;
}

function answer(tls: BareTls, from: (bytes: string) => Readable): Http2SecureServer {
	const windows = { settings: { initialWindowSize: STREAM_WINDOW_BYTES } };
	const server = createSecureServer({ ...tlsOf(tls), ...windows, requestCert: true, rejectUnauthorized: true });
	server.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
		stream.respond({ ':status': 200 });
		pass(from(String(headers[BYTES_HEADER])), stream);
	});
	return server;
}

function host(): ReturnType<typeof createServer> {
	return createServer((socket) => {
		socket.once('data', (bytes) => {
			pass(
				spawn('head', ['-c', bytes.toString(), '/dev/zero'], { stdio: ['ignore', 'pipe', 'ignore'] }).stdout,
				socket,
			);
		});
	});
}

async function serve(server: ReturnType<typeof createServer>, where: string | number): Promise<void> {
	await new Promise<void>((resolve) => server.listen(where, () => resolve()));
	const address = server.address();
	await serveParent((address as AddressInfo | null)?.port ?? 0, async () => null);
	process.exit();
}

if (settings.role === 'sink') pass(ask(settings.tls, settings.upstream, String(settings.bytes)), process.stdout);
else {
	using _alive = keepAlive();
	if (settings.role === 'host') await serve(host(), settings.socket);
	else if (settings.role === 'agent') {
		const { tls, socket } = settings;
		const ofHost = (bytes: string) => {
			const connection = connect(socket);
			connection.write(bytes);
			return connection;
		};
		await serve(answer(tls, ofHost), 0);
	} else {
		const { tls, upstream } = settings;
		await serve(
			answer(tls, (bytes) => ask(tls, upstream, bytes)),
			0,
		);
	}
}
