import { fromBinary } from '@bufbuild/protobuf';
import { durationFromMs, timestampFromMs } from '@bufbuild/protobuf/wkt';
import { DsseEnvelopeSchema } from '../../../proto/gen/gpuaas/common/v1/types_pb.ts';
import { CloseCode } from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type {
	AgentSessions,
	ChannelOpenCommand,
	DeclinedTask,
	HistoryQueryCommand,
	TaskCancelCommand,
	TaskOfferCommand,
	TelemetryPlanCommand,
} from './agent-sessions.ts';
import type { CommandInit } from './command-stream.ts';

/**
 * Live agent streams of this replica, one session a node. Owned by the gateway's link; everything else sees it as
 * `AgentSessions`. Invariant: of two sessions of a node the one with the higher epoch stays, whatever the order in
 * which their Hellos were finished. Streams beside the link (uploads) are attached to their certificate, so that a
 * revocation ends all that it opened.
 */
export interface LiveSession {
	readonly nodeId: string;
	readonly epoch: number;
	readonly serial: string;
	readonly declined?: DeclinedTask | undefined;
	/** Queues a command; false when too much is unacknowledged. */
	command(key: string, command: CommandInit): boolean;
	close(code: CloseCode, message: string, retryAfterMs?: number): void;
}

export interface AttachedStream {
	readonly nodeId: string;
	readonly serial: string;
	readonly notAfterMs: number;
	close(code: CloseCode, message: string): void;
}

export class SessionRegistry implements AgentSessions {
	readonly #sessions = new Map<string, LiveSession>();
	readonly #attached = new Map<string, Set<AttachedStream>>();
	#broadcasts = 0;

	/** Takes the session in and closes the one it replaces; false (and it is closed) when a newer one is there. */
	add(session: LiveSession): boolean {
		const known = this.#sessions.get(session.nodeId);
		if (known !== undefined && known.epoch > session.epoch) {
			session.close(CloseCode.SUPERSEDED, 'a newer session of this node was opened meanwhile');
			return false;
		}
		this.#sessions.set(session.nodeId, session);
		known?.close(CloseCode.SUPERSEDED, 'a newer session of this node took over');
		return true;
	}

	remove(session: LiveSession): void {
		if (this.#sessions.get(session.nodeId) === session) this.#sessions.delete(session.nodeId);
	}

	get(nodeId: string): LiveSession | undefined {
		return this.#sessions.get(nodeId);
	}

	get size(): number {
		return this.#sessions.size;
	}

	/** A stream that lives beside the link of its node. Returns what forgets it. */
	attach(stream: AttachedStream): () => void {
		let streams = this.#attached.get(stream.nodeId);
		if (streams === undefined) {
			streams = new Set();
			this.#attached.set(stream.nodeId, streams);
		}
		streams.add(stream);
		return () => {
			streams.delete(stream);
			if (streams.size === 0 && this.#attached.get(stream.nodeId) === streams) this.#attached.delete(stream.nodeId);
		};
	}

	/** Ends attached streams whose certificate is no longer valid: TLS doesn't look again. */
	expireAttached(nowMs: number): void {
		for (const streams of [...this.#attached.values()])
			for (const stream of [...streams])
				if (nowMs >= stream.notAfterMs)
					stream.close(CloseCode.CERTIFICATE_EXPIRED, 'the certificate that opened this stream has expired');
	}

	attachedCount(nodeId: string): number {
		return this.#attached.get(nodeId)?.size ?? 0;
	}

	connected(): Iterable<string> {
		return this.#sessions.keys();
	}

	isConnected(nodeId: string): boolean {
		return this.#sessions.has(nodeId);
	}

	offer(nodeId: string, offer: TaskOfferCommand): boolean {
		return this.#command(nodeId, `task ${offer.taskId} ${offer.attempt}`, {
			correlationId: offer.correlationId,
			command: { case: 'taskOffer', value: { envelope: fromBinary(DsseEnvelopeSchema, offer.envelope) } },
		});
	}

	cancel(nodeId: string, cancel: TaskCancelCommand): boolean {
		const { taskId, attempt, fencingToken, graceMs, reason, correlationId } = cancel;
		// One with less time is another: while the first is on its way it would be taken for the same.
		return this.#command(nodeId, `cancel ${taskId} ${attempt} ${graceMs}`, {
			correlationId,
			command: {
				case: 'taskCancel',
				value: { taskId, attempt, fencingToken: BigInt(fencingToken), grace: durationFromMs(graceMs), reason },
			},
		});
	}

	openChannel(nodeId: string, { channelId, correlationId, grant }: ChannelOpenCommand): boolean {
		return this.#command(nodeId, `channel ${channelId}`, {
			correlationId,
			command: { case: 'channelOpen', value: { grant: fromBinary(DsseEnvelopeSchema, grant) } },
		});
	}

	renewNow(nodeId: string, reason: string): boolean {
		return this.#command(nodeId, 'renew', { command: { case: 'renewNow', value: { reason } } });
	}

	declinedBy(nodeId: string): DeclinedTask | undefined {
		return this.#sessions.get(nodeId)?.declined;
	}

	planTelemetry(nodeId: string, { periodMs, fastPeriodMs, fastUntilMs }: TelemetryPlanCommand): boolean {
		const plan = {
			period: durationFromMs(periodMs),
			fastPeriod: durationFromMs(fastPeriodMs),
			fastUntil: timestampFromMs(fastUntilMs),
		};
		return this.#command(nodeId, `plan ${fastUntilMs}`, { command: { case: 'telemetryPlan', value: plan } });
	}

	queryHistory(nodeId: string, query: HistoryQueryCommand): boolean {
		const { queryId, part, id, keys, fromMs, untilMs, pointsMax } = query;
		const value = {
			queryId,
			part,
			id,
			keys: [...keys],
			from: timestampFromMs(fromMs),
			until: timestampFromMs(untilMs),
			pointsMax,
		};
		return this.#command(nodeId, `history ${queryId}`, { command: { case: 'historyQuery', value } });
	}

	broadcastTrust(bundle: Uint8Array): void {
		this.#broadcasts += 1;
		// A session that is full misses it, and gets the newest bundle with the Welcome of its next.
		for (const session of this.#sessions.values())
			session.command(`trust ${this.#broadcasts}`, { command: { case: 'trustUpdate', value: { bundle } } });
	}

	close(nodeId: string, code: CloseCode, message: string): boolean {
		// A superseded link leaves its node's uploads alone; every other reason concerns the node itself.
		if (code !== CloseCode.SUPERSEDED) {
			for (const stream of [...(this.#attached.get(nodeId) ?? [])]) stream.close(code, message);
		}
		const session = this.#sessions.get(nodeId);
		session?.close(code, message);
		return session !== undefined;
	}

	closeSerial(serial: string, message: string): number {
		let closed = 0;
		const end = (stream: LiveSession | AttachedStream) => {
			if (stream.serial !== serial) return;
			stream.close(CloseCode.REVOKED, message);
			closed += 1;
		};
		for (const session of [...this.#sessions.values()]) end(session);
		for (const streams of [...this.#attached.values()]) for (const stream of [...streams]) end(stream);
		return closed;
	}

	#command(nodeId: string, key: string, command: CommandInit): boolean {
		return this.#sessions.get(nodeId)?.command(key, command) ?? false;
	}
}
