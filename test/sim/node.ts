import { create } from '@bufbuild/protobuf';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import { CONTROL_LIMITS_DEFAULT } from '../../agent/control/control-deps.ts';
import { OutputUploader } from '../../agent/control/output-uploader.ts';
import { Control } from '../../agent/control/session.ts';
import { Renewal } from '../../agent/identity/renewal.ts';
import type { JournalState } from '../../agent/journal/memory.ts';
import { keepHost } from '../../agent/process-host/keeper.ts';
import { DeviceGuard } from '../../agent/tasks/device-guard.ts';
import { parsePolicy } from '../../agent/tasks/policy.ts';
import { TaskRunner } from '../../agent/tasks/runner.ts';
import { RUNNER_LIMITS_DEFAULT } from '../../agent/tasks/runner-deps.ts';
import { GpuaasError } from '../../kit/error.ts';
import { uuidv7 } from '../../kit/ids.ts';
import { Scope } from '../../kit/scope.ts';
import { RenewCertificateRequestSchema } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { type OnExecution, SimHost } from './world/host.ts';
import { connectSimHost } from './world/host-connection.ts';
import { type IdentityImage, SimIdentity } from './world/identity.ts';
import { type JournalDisk, SimJournal } from './world/journal.ts';
import { simSigner } from './world/keys.ts';
import { simLogger } from './world/log.ts';
import type { Network } from './world/network.ts';
import { PROGRAM_PATH } from './world/programs.ts';
import type { SeededRng } from './world/random.ts';
import type { Scheduler, SimProcess } from './world/scheduler.ts';

/**
 * One machine: its disk (journal, identity, policy), its process host, and the real agent, composed as its main
 * composes it but for telemetry. The agent may be killed at any moment and is started again from the disk.
 */
export interface SimNodeOptions {
	readonly name: string;
	readonly scheduler: Scheduler;
	readonly network: Network;
	readonly rng: SeededRng;
	readonly onExecution: OnExecution;
	readonly onJournalLost: (node: string) => void;
	readonly print: ((line: string) => void) | undefined;
}

const RESTART_MS = 800;
const JOURNAL_BYTES_MAX = 1024 * 1024;
const POLICY = parsePolicy(
	`[tasks]
kinds = ["run"]
[run]
users = ["sim"]
default_user = "sim"
binaries = ["${PROGRAM_PATH}"]
`,
	'agent.policy.toml',
);

export class SimNode {
	readonly name: string;
	readonly host: SimHost;
	readonly disk: JournalDisk = { fault: undefined, crashIn: undefined, crashSide: 'before' };
	readonly clockOffset = { ms: 0 };
	readonly #options: SimNodeOptions;
	#identityImage: IdentityImage | undefined;
	#journalImage: JournalState | undefined;
	#journal: SimJournal | undefined;
	#process: SimProcess | undefined;
	#scope: Scope | undefined;
	#starts = 0;
	#keys = 0;

	constructor(options: SimNodeOptions) {
		this.#options = options;
		this.name = options.name;
		const { scheduler, rng, onExecution } = options;
		this.host = new SimHost(options.name, scheduler, rng.fork('host'), onExecution);
	}

	get isUp(): boolean {
		return this.#process?.alive === true;
	}

	get nodeId(): string | undefined {
		return this.#identityImage?.nodeId;
	}

	/** The journal as its disk has it, for checkers. */
	journal(): JournalState | undefined {
		return this.#journal?.committed() ?? this.#journalImage;
	}

	/** What enrollment wrote. */
	enrolled(image: IdentityImage): void {
		this.#identityImage = image;
	}

	startAgent(): void {
		if (this.isUp || this.#identityImage === undefined) return;
		this.#starts += 1;
		const { scheduler } = this.#options;
		const process = scheduler.process(`${this.name} agent ${this.#starts}`, this.clockOffset);
		this.#process = process;
		scheduler.note(`${this.name} agent ${this.#starts} starts`);
		this.#run(process, this.#identityImage);
	}

	/** SIGTERM: it says goodbye, and its tasks go on. */
	stopAgent(): void {
		const process = this.#process;
		const scope = this.#scope;
		if (process?.alive !== true || scope === undefined) return;
		this.#options.scheduler.note(`${this.name} agent is asked to stop`);
		const end = () => process.after(1, () => this.killAgent('it stopped as it was asked to'));
		scope[Symbol.asyncDispose]().then(end, end);
	}

	/** kill -9. */
	killAgent(why: string): void {
		const process = this.#process;
		if (process?.alive !== true) return;
		const { scheduler, network, rng } = this.#options;
		scheduler.note(`${this.name} agent killed: ${why}`);
		process.kill();
		this.#journalImage = this.#journal?.committed();
		this.#journal = undefined;
		// Its ports are dead: this only ends what waits, which Node else keeps in memory for as long as it waits.
		void this.#scope?.[Symbol.asyncDispose]();
		this.#scope = undefined;
		network.breakWires(this.name, rng.chance(0.7) ? 'reset' : 'both');
		scheduler.after(RESTART_MS + rng.float() * 2000, () => this.startAgent());
	}

	/**
	 * The journal's file is lost, as after a damaged disk; identity and process host are still there. Only after a fact
	 * was acknowledged: that is by what the control plane knows a new journal.
	 */
	loseJournal(): void {
		if (!this.isUp || (this.#journal?.committed().ackedSeq ?? 0n) === 0n) return;
		this.killAgent('its journal is lost');
		this.#journalImage = undefined;
		this.#options.onJournalLost(this.name);
	}

	/** Power loss: agent and host die, the boot id changes. */
	reboot(): void {
		this.host.reboot();
		this.killAgent('the machine restarts');
	}

	#run(process: SimProcess, image: IdentityImage): void {
		const { network, print, name } = this.#options;
		const { clock, rng } = process;
		const log = simLogger(process, print);
		const scope = new Scope((part, error) => log.error('a part of the agent failed', { part, error }));
		this.#scope = scope;
		const die = () => this.killAgent('at a commit of its journal');
		const journal = new SimJournal(this.#journalImage, this.disk, die, JOURNAL_BYTES_MAX);
		this.#journal = journal;
		const identity = new SimIdentity(image, (changed) => {
			if (process.alive) this.#identityImage = changed;
		});
		const platform = {
			bootId: this.host.bootId,
			agentVersion: 'sim',
			ownUser: 'sim',
			findHome: () => '/',
			isExecutable: () => true,
			realPath: (path: string) => path,
			rebooter: { refusal: 'a simulated machine is restarted by its simulation', reboot: () => Promise.resolve() },
			recentLog: { written: 0, text: () => 'a line of the agent\n' },
			injectFaults: () => {},
		};
		const runner = new TaskRunner({
			clock,
			log,
			identity,
			journal,
			policy: POLICY,
			devices: new DeviceGuard({ clock, log, policy: POLICY, read: () => [] }),
			platform,
			limits: RUNNER_LIMITS_DEFAULT,
		});
		const control: Control = new Control({
			clock,
			rng,
			log,
			transport: network.transport(name, process),
			identity,
			journal,
			commands: runner,
			host: {
				bootId: this.host.bootId,
				agentVersion: 'sim',
				capabilities: ['task.run'],
				hostname: name,
				instanceId: uuidv7(clock.now(), rng),
			},
			limits: CONTROL_LIMITS_DEFAULT,
			onRenewNow: (reason) => renewal.renewNow(reason),
			onTelemetryPlan: () => {},
			telemetryDropped: () => 0,
			prepare: async () => {},
		});
		const renewal = new Renewal({
			identity,
			clock,
			rng,
			log,
			renew: async (csr, joinState) => {
				const answer = await control.renewCertificate(
					create(RenewCertificateRequestSchema, { csr, joinState }),
					scope.signal,
				);
				return {
					...answer,
					serverTimeMs: answer.serverTime === undefined ? clock.now() : timestampMs(answer.serverTime),
				};
			},
			recover: () =>
				Promise.reject(
					new GpuaasError({
						code: 'UNAVAILABLE',
						reason: 'UNREACHABLE',
						message: 'no enrollment listener in this world',
					}),
				),
			makeKey: () => this.#makeKey(),
		});
		const uploader = new OutputUploader({ clock, rng, log, output: runner.output });
		uploader.start(scope.signal);
		control.onConnection((connection) => uploader.setConnection(connection));
		const connect = () => {
			if (process.alive) this.host.start();
			return connectSimHost(this.host, process, rng);
		};
		scope.run('process host', (ended) =>
			keepHost({ clock, rng, log, name: 'process host', connect, user: runner }, ended),
		);
		scope.run('link', (ended) => control.run(ended));
		scope.run('renewal', (ended) => renewal.run(ended));
	}

	#makeKey() {
		this.#keys += 1;
		const seed = `${this.name}/key-${this.#keys}`;
		return { privateKeyPem: seed, signer: simSigner(seed, 'ecdsa-p256-sha256') };
	}
}
