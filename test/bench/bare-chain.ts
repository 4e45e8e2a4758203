import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../../kit/clock.ts';
import { systemRng } from '../../kit/ids.ts';
import { generateSigner } from '../../pki/keys/signer.ts';
import { makeCertificate, randomSerial } from '../../pki/x509/certificate.ts';
import { certificatePem } from '../../pki/x509/pem.ts';
import { BenchChild } from './child.ts';

export interface BareTls {
	readonly certPem: string;
	readonly keyPem: string;
}

export type BareChainSettings =
	| { readonly role: 'host'; readonly socket: string }
	| { readonly role: 'agent'; readonly tls: BareTls; readonly socket: string }
	| { readonly role: 'relay'; readonly tls: BareTls; readonly upstream: number }
	| { readonly role: 'sink'; readonly tls: BareTls; readonly upstream: number; readonly bytes: number };

const MAIN = './bare-chain-main.ts';
const HOUR_MS = 3_600_000;

/**
 * What Node can do with the hops of a command on a node: a program's pipe, a Unix socket, and twice mTLS with HTTP/2,
 * through four processes that pass bytes on and do nothing else. No frames, acknowledgements, decisions or audit.
 */
export class BareChain implements AsyncDisposable {
	readonly #sink: Omit<Extract<BareChainSettings, { role: 'sink' }>, 'bytes'>;
	readonly #close: AsyncDisposableStack;

	private constructor(sink: { readonly tls: BareTls; readonly upstream: number }, close: AsyncDisposableStack) {
		this.#sink = { role: 'sink', ...sink };
		this.#close = close;
	}

	static async start(): Promise<BareChain> {
		await using begun = new AsyncDisposableStack();
		const folder = mkdtempSync(join(tmpdir(), 'bench-bare-'));
		begun.defer(() => rmSync(folder, { recursive: true, force: true }));
		const tls = await ownTls();
		const socket = join(folder, 'host.sock');
		const start = async (settings: BareChainSettings) => {
			const child = begun.use(new BenchChild(MAIN, settings, ['--expose-gc']));
			return Number(await child.ready);
		};
		await start({ role: 'host', socket });
		const agent = await start({ role: 'agent', tls, socket });
		const relay = await start({ role: 'relay', tls, upstream: agent });
		return new BareChain({ tls, upstream: relay }, begun.move());
	}

	/** The command line that writes so many bytes to its stdout. */
	argv(bytes: number): readonly string[] {
		const settings: BareChainSettings = { ...this.#sink, bytes };
		return [process.execPath, '--expose-gc', fileURLToPath(new URL(MAIN, import.meta.url)), JSON.stringify(settings)];
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.#close.disposeAsync();
	}
}

async function ownTls(): Promise<BareTls> {
	const signer = generateSigner('ecdsa-p256-sha256');
	const nowMs = systemClock.now();
	const der = await makeCertificate(
		{
			serialHex: randomSerial(systemRng),
			subject: 'CN=bench',
			spki: signer.spki(),
			notBeforeMs: nowMs - HOUR_MS,
			notAfterMs: nowMs + 24 * HOUR_MS,
			ekus: [],
			sans: [{ type: 'dns', value: 'localhost' }],
		},
		{ signer },
	);
	return { certPem: certificatePem(der), keyPem: signer.exportPkcs8Pem() };
}
