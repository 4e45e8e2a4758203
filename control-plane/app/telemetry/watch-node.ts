import { create } from '@bufbuild/protobuf';
import type { Clock } from '../../../kit/clock.ts';
import {
	TelemetryService,
	WatchNodeTelemetryResponseSchema,
} from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_service_pb.ts';
import { stream } from '../use-case.ts';
import { currentView } from './caller-view.ts';
import type { TelemetryIngest } from './ingest.ts';
import { nodeTelemetryMessage } from './messages.ts';

/** How long a stream may stay open that its reader may see no more of; and how soon silence is told. */
const LOOK_AGAIN_MS = 1000;

/**
 * The newest sample, and each that follows. A reader that is slower than the samples misses some and never gets an old
 * one: nothing is queued. Each message is decided upon again.
 */
export const watchNodeTelemetry = stream('node', TelemetryService.method.watchNodeTelemetry, {
	async *events({ deps, ctx, request }, first, decideAgain) {
		const { telemetry, clock } = deps;
		const wake = new SampleWake(telemetry.ingest, clock, ctx.signal, first.node.id);
		try {
			let target = first;
			let shown = '';
			let count = 0;
			for (;;) {
				const sample = telemetry.latest.get(target.node.id);
				const version = `${sample?.heardAtMs ?? ''} ${sample !== undefined && telemetry.latest.isStale(sample)}`;
				if (version !== shown) {
					shown = version;
					const view = currentView(ctx, 'telemetry.get', target);
					const message = nodeTelemetryMessage(telemetry, target.node, view);
					yield create(WatchNodeTelemetryResponseSchema, { telemetry: message });
					count += 1;
					if (count === request.samplesMax) return;
				}
				await wake.wait();
				ctx.signal.throwIfAborted();
				target = await decideAgain();
			}
		} finally {
			wake.close();
		}
	},
});

/** Resolves when a sample of the node came since the last wait, after a while, or when the caller goes. */
class SampleWake {
	readonly #clock: Clock;
	readonly #signal: AbortSignal;
	readonly #unlisten: () => void;
	#pending = false;
	#resolve: (() => void) | undefined;
	readonly #ring = () => {
		this.#pending = true;
		this.#resolve?.();
	};

	constructor(ingest: TelemetryIngest, clock: Clock, signal: AbortSignal, nodeId: string) {
		this.#clock = clock;
		this.#signal = signal;
		this.#unlisten = ingest.listen({
			onSample: (sample) => {
				if (sample.nodeId === nodeId) this.#ring();
			},
		});
		signal.addEventListener('abort', this.#ring, { once: true });
	}

	async wait(): Promise<void> {
		if (!this.#pending && !this.#signal.aborted) {
			const timer = this.#clock.setTimer(this.#ring, LOOK_AGAIN_MS);
			await new Promise<void>((resolve) => {
				this.#resolve = resolve;
			});
			this.#resolve = undefined;
			timer.cancel();
		}
		this.#pending = false;
	}

	close(): void {
		this.#unlisten();
		this.#signal.removeEventListener('abort', this.#ring);
	}
}
