import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Registry } from '../kit/exposition.ts';
import type { Scope } from '../kit/scope.ts';
import { OTLP_HEADERS, OtlpEncoder } from './adapters/export/otlp.ts';
import { createPost } from './adapters/export/post.ts';
import { PushQueue } from './adapters/export/push-queue.ts';
import { Pusher, type SampleEncoder } from './adapters/export/pusher.ts';
import { REMOTE_WRITE_HEADERS, RemoteWriteEncoder } from './adapters/export/remote-write.ts';
import { Sender } from './adapters/export/sender.ts';
import type { UseCaseDeps } from './app/use-case.ts';
import type { ControlPlaneConfig } from './config.ts';
import { foldersOf } from './settings.ts';

/** Starts what pushes telemetry, where the configuration names receivers. */
interface Receiver {
	readonly name: 'remote-write' | 'otlp';
	readonly url: string;
	readonly tokenFile: string | undefined;
	readonly headers: Readonly<Record<string, string>>;
	readonly encoder: SampleEncoder;
}

export async function startPushes(
	deps: UseCaseDeps,
	config: ControlPlaneConfig,
	registry: Registry,
	scope: Scope,
): Promise<void> {
	const { remoteWriteUrl, remoteWriteTokenFile, otlpUrl, otlpTokenFile, queueMaxBytes } = config.export;
	const started: Started[] = [];
	const start = async (receiver: Receiver) => {
		started.push(await startPush(receiver, deps, config, queueMaxBytes, scope));
	};
	if (remoteWriteUrl !== undefined) {
		const encoder = new RemoteWriteEncoder();
		const headers = REMOTE_WRITE_HEADERS;
		await start({ name: 'remote-write', url: remoteWriteUrl, tokenFile: remoteWriteTokenFile, headers, encoder });
	}
	if (otlpUrl !== undefined) {
		const encoder = new OtlpEncoder();
		await start({ name: 'otlp', url: otlpUrl, tokenFile: otlpTokenFile, headers: OTLP_HEADERS, encoder });
	}
	if (started.length > 0) register(registry, started);
}

interface Started {
	readonly name: string;
	readonly queue: PushQueue;
	readonly sender: Sender;
	readonly pusher: Pusher;
}

async function startPush(
	{ name, url, tokenFile, headers, encoder }: Receiver,
	deps: UseCaseDeps,
	config: ControlPlaneConfig,
	bytesMax: number,
	scope: Scope,
): Promise<Started> {
	const { clock, rng, log, telemetry } = deps;
	const queue = scope.use(await PushQueue.open({ folder: join(foldersOf(config).push, name), bytesMax }));
	const token = tokenFile === undefined ? {} : { bearerToken: readFileSync(tokenFile, 'utf8').trim() };
	const post = createPost({ url: new URL(url), headers, ...token });
	const sender = new Sender({ clock, rng, log, name, queue, post });
	const { hostnameLabel } = config.ops;
	const names = new Set(config.export.names.filter((name) => name === 'gpuaas' || name === 'dcgm'));
	const series = { names, hostnameLabel };
	const { directory, xids } = telemetry;
	const pusher = scope.use(new Pusher({ clock, log, directory, queue, encoder, series, xids, onQueued: sender.wake }));
	scope.defer(telemetry.ingest.listen(pusher));
	scope.run(`push ${name}`, (signal) => sender.run(signal));
	return { name, queue, sender, pusher };
}

function register(registry: Registry, started: readonly Started[]): void {
	const collect = (name: string, type: 'counter' | 'gauge', help: string, read: (push: Started) => number) =>
		registry.collect({ name, type, help, labelNames: ['receiver'] }, (emit) => {
			for (const push of started) emit(read(push), push.name);
		});
	collect('gpuaas_push_waiting_requests', 'gauge', 'Requests that wait on disk.', ({ queue }) => queue.records);
	collect('gpuaas_push_waiting_bytes', 'gauge', 'Their bytes.', ({ queue }) => queue.bytes);
	collect('gpuaas_push_sent_total', 'counter', 'Requests that a receiver took.', ({ sender }) => sender.counts.sent);
	const refused = 'Requests that a receiver refused for ever.';
	collect('gpuaas_push_refused_total', 'counter', refused, ({ sender }) => sender.counts.refused);
	collect('gpuaas_push_retried_total', 'counter', 'Tries that failed.', ({ sender }) => sender.counts.retried);
	const dropped = 'Requests that had to make room for newer ones.';
	collect('gpuaas_push_dropped_total', 'counter', dropped, ({ queue }) => queue.droppedRecords);
	const lost = 'Series that the disk did not take.';
	collect('gpuaas_push_lost_series_total', 'counter', lost, ({ pusher }) => pusher.lost);
}
