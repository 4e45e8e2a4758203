import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from '../eventually.ts';
import { freePort } from '../free-port.ts';
import { tool } from '../tools.ts';

export interface Series {
	readonly metric: Readonly<Record<string, string>>;
	readonly value: readonly [number, string];
}

/** A real Prometheus with a configuration, in a folder of its own, that takes remote write too. */
export class PrometheusServer implements AsyncDisposable {
	readonly #child: ChildProcess;
	readonly #folder: string;
	readonly url: string;

	private constructor(child: ChildProcess, folder: string, url: string) {
		this.#child = child;
		this.#folder = folder;
		this.url = url;
	}

	static async start(config: string): Promise<PrometheusServer> {
		const port = await freePort();
		const folder = mkdtempSync(join(tmpdir(), 'gpuaas-prometheus-'));
		mkdirSync(join(folder, 'data'));
		writeFileSync(join(folder, 'prometheus.yml'), config);
		const url = `http://127.0.0.1:${port}`;
		const args = [
			`--config.file=${join(folder, 'prometheus.yml')}`,
			`--storage.tsdb.path=${join(folder, 'data')}`,
			`--web.listen-address=127.0.0.1:${port}`,
			'--web.enable-remote-write-receiver',
		];
		const server = new PrometheusServer(spawn(tool('prometheus'), args, { stdio: 'ignore' }), folder, url);
		await eventually('Prometheus is ready', async () => (await fetch(`${url}/-/ready`).catch(() => undefined))?.ok);
		return server;
	}

	async query(expression: string): Promise<readonly Series[]> {
		const response = await fetch(`${this.url}/api/v1/query`, {
			method: 'POST',
			body: new URLSearchParams({ query: expression }),
		});
		const answer = (await response.json()) as { status: string; error?: string; data?: { result: Series[] } };
		if (answer.data === undefined) throw new Error(`${expression}: ${answer.error}`);
		return answer.data.result;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await ended(this.#child);
		rmSync(this.#folder, { recursive: true, force: true });
	}
}

/** Also where it has ended by itself. */
export async function ended(child: ChildProcess): Promise<void> {
	if (child.exitCode !== null || child.signalCode !== null) return;
	const exited = new Promise((resolve) => child.once('exit', resolve));
	child.kill('SIGTERM');
	await exited;
}
