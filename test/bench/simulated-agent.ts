import { createHash } from 'node:crypto';
import { create, fromBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { CommandSink } from '../../agent/control/command-sink.ts';
import { CONTROL_LIMITS_DEFAULT } from '../../agent/control/control-deps.ts';
import type { LinkTransport } from '../../agent/control/link-transport.ts';
import { Control } from '../../agent/control/session.ts';
import type { AgentIdentity } from '../../agent/identity/identity.ts';
import type { Journal } from '../../agent/journal/journal.ts';
import { MemoryJournal } from '../../agent/journal/memory.ts';
import { acceptedFact, finishedFact, startedFact } from '../../agent/tasks/facts.ts';
import { Collector } from '../../agent/telemetry/collector.ts';
import type { Values } from '../../agent/telemetry/proc-files.ts';
import { TelemetrySampler } from '../../agent/telemetry/sampler.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { outputSha256OfChunks } from '../../pki/verify/task-output.ts';
import type { Command } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { TaskEnvelopeSchema, TaskOutcomeSchema, TaskResult } from '../../proto/gen/gpuaas/link/v1/task_documents_pb.ts';

/**
 * *Simulated*: an agent of which the link, its session loop, telemetry and the signing of receipts are the real ones;
 * host, journal and programs are not there. A task that it is offered has ended at once.
 */
export class SimulatedAgent {
	readonly control: Control;
	readonly #journal = new MemoryJournal();
	readonly #stopping = new AbortController();
	readonly #sampler: TelemetrySampler;
	#connectedAtMs: number | undefined;
	#losses = 0;
	#running: Promise<void> = Promise.resolve();

	constructor(
		identity: AgentIdentity,
		transport: LinkTransport,
		values: Values,
		onConnected: (isConnected: boolean) => void,
	) {
		this.control = new Control({
			clock: systemClock,
			rng: systemRng,
			log: silentLogger,
			transport,
			identity,
			journal: this.#journal,
			commands: new InstantTasks(identity, this.#journal),
			host: {
				bootId: 'simulated',
				agentVersion: 'simulated',
				capabilities: ['task.run'],
				hostname: identity.nodeId,
				instanceId: uuidv7(systemClock.now(), systemRng),
			},
			limits: CONTROL_LIMITS_DEFAULT,
			onRenewNow: () => {},
			onTelemetryPlan: () => {},
			telemetryDropped: () => 0,
			prepare: async () => {},
		});
		this.control.onConnection((connection) => {
			const wasConnected = this.#connectedAtMs !== undefined;
			this.#connectedAtMs = connection === undefined ? undefined : systemClock.now();
			if (wasConnected === (connection !== undefined)) return;
			if (wasConnected) this.#losses += 1;
			onConnected(!wasConnected);
		});
		const { nodeId } = identity;
		const send = this.control.sendTelemetry.bind(this.control);
		const plan = { periodMs: 15_000, fastPeriodMs: 0, fastUntilMs: 0 };
		const collector = new Collector({
			clock: systemClock,
			sampleHost: () => new Map(values),
			sampleSlow: () => ({ ibPorts: [], disks: [] }),
			probe: undefined,
			lastXid: () => Number.NaN,
			inventory: () => '',
			findOwner: () => () => undefined,
		});
		const collect = async (dropped: bigint) => (await collector.collect(dropped)).frame;
		const onError = (error: unknown) => {
			throw error;
		};
		this.#sampler = new TelemetrySampler({ clock: systemClock, nodeId, collect, send, onError }, plan);
	}

	start(): void {
		this.#running = this.control.run(this.#stopping.signal);
	}

	/** On the wall clock, which the processes of a bench share. */
	get connectedAtMs(): number | undefined {
		return this.#connectedAtMs;
	}

	get losses(): number {
		return this.#losses;
	}

	get silentMs(): number {
		return this.#connectedAtMs === undefined ? 0 : (this.control.state().sinceHeardMs ?? 0);
	}

	/** Why it isn't connected, as far as it knows. */
	get trouble(): string {
		const { phase, lastEnd } = this.control.state();
		return `${phase}: ${lastEnd?.code ?? ''} ${lastEnd?.message ?? ''}`;
	}

	async stop(): Promise<void> {
		this.#sampler[Symbol.dispose]();
		this.#stopping.abort();
		await this.#running;
	}
}

/** Answers offers with acceptance, start and signed receipt, all in the batch that they came in. */
class InstantTasks implements CommandSink {
	readonly #identity: AgentIdentity;
	readonly #journal: Journal;
	#offers: Command[] = [];

	constructor(identity: AgentIdentity, journal: Journal) {
		this.#identity = identity;
		this.#journal = journal;
	}

	handle(command: Command): void {
		if (command.command.case === 'taskOffer') this.#offers.push(command);
	}

	commit(): void {
		const offers = this.#offers;
		this.#offers = [];
		this.#journal.appendFacts(offers.flatMap((command) => this.#facts(command)));
	}

	attempts() {
		return [];
	}

	takeDeclined(): readonly [] {
		return [];
	}

	runningCount(): number {
		return 0;
	}

	#facts({ command, correlationId }: Command) {
		const { payload } = present(command.case === 'taskOffer' ? command.value.envelope : undefined, 'an offer');
		const { taskId, attempt, fencingToken } = fromBinary(TaskEnvelopeSchema, payload);
		const context = { nowMs: systemClock.now(), correlationId };
		const row = {
			taskId,
			attempt,
			fencingToken,
			phase: 'started',
			envelope: payload,
			envelopeSha256: createHash('sha256').update(payload).digest(),
			acceptedAtMs: context.nowMs,
			bootId: 'simulated',
			cancelReason: '',
			outputStored: true,
		} as const;
		const outcome = create(TaskOutcomeSchema, {
			result: TaskResult.SUCCEEDED,
			exitCode: 0,
			endedAt: timestampFromMs(context.nowMs),
			outputSha256: NOTHING_PRINTED,
		});
		const signatory = { identity: this.#identity, agentVersion: 'simulated', bootId: 'simulated' };
		return [
			acceptedFact(context, row),
			startedFact(context, row, undefined),
			finishedFact(context, row, { outcome, output: [] }, signatory),
		];
	}
}

const NOTHING_PRINTED = outputSha256OfChunks([]);
