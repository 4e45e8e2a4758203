import { systemClock } from '../../kit/clock.ts';
import { Chaos } from './chaos.ts';
import { checkAudit, checkSealed } from './checkers/audit.ts';
import { checkAtRest, checkExecutions } from './checkers/final.ts';
import { type Image, readImage } from './checkers/image.ts';
import { checkImage, isOpen } from './checkers/image-checks.ts';
import { SessionChecker } from './checkers/sessions.ts';
import { type ControlPlaneDisks, SimControlPlane } from './control-plane.ts';
import { enroll } from './enrollment.ts';
import { type Checker, History, type Violation } from './history.ts';
import { SimNode } from './node.ts';
import { Operator } from './operator.ts';
import { Workload } from './workload.ts';
import { Network } from './world/network.ts';
import { SeededRng } from './world/random.ts';
import { Scheduler } from './world/scheduler.ts';
import { Trace } from './world/trace.ts';

/**
 * One seed, from an empty database to a healed and quiet fleet: machines enroll, people ask for work, everything
 * breaks for a while, then nothing does any more, and in bounded virtual time all must be well. The checkers look at
 * every committed image that a crash leaves, at some in between, and at the end.
 */
export interface SeedResult {
	readonly seed: number;
	readonly traceHash: string;
	readonly violations: readonly Violation[];
	readonly events: number;
	readonly tasks: number;
	readonly executions: number;
	readonly crashes: number;
	/** Last lines of the trace. */
	readonly tail: readonly string[];
}

export interface RunOptions {
	/** Gets every line of the trace and every log line. */
	readonly print?: (line: string) => void;
	/** Injects a bug once everything is set up, to see whether a checker finds it. */
	readonly sabotage?: (world: World) => void;
}

export interface World {
	readonly scheduler: Scheduler;
	readonly network: Network;
	readonly controlPlane: SimControlPlane;
	readonly nodes: readonly SimNode[];
	readonly history: History;
	readonly operator: Operator;
	readonly workload: Workload;
	readonly chaos: Chaos;
	readonly rng: SeededRng;
}

const FIRST_START_EVERY = 10;
const ROTATES_EVERY = 4;
const ENROLL_MAX_MS = 60_000;
const FAULTS_FROM_MS = 5000;
const FAULTS_MS = 90_000;
/** After the last fault: a queue timeout, a task timeout, a lease that was lost, and what lies between them. */
const REST_MAX_MS = 900_000;
const LOOK_MS = 30_000;
/** A run that doesn't come to rest has lost its mind, not its time. */
const EVENTS_MAX = 2_000_000;

export async function runSeed(seed: number, options: RunOptions = {}): Promise<SeedResult> {
	const world = await makeWorld(seed, options);
	const { scheduler, controlPlane, nodes, history } = world;
	using _ = bugsOf(history);
	const run = new Run(world);
	if (await run.enroll()) {
		const startMs = Math.max(FAULTS_FROM_MS, scheduler.elapsedMs);
		world.workload.plan(startMs, startMs + FAULTS_MS);
		world.chaos.plan(startMs, startMs + FAULTS_MS);
		scheduler.at(startMs + FAULTS_MS, () => world.chaos.heal());
		options.sabotage?.(world);
		await run.untilRest(startMs + FAULTS_MS);
	} else history.violate('everything-ends', 'the machines could not enroll, and nothing was wrong yet');
	// Node tells of rejections that nobody handled only when it gets its turn, between runs.
	await new Promise<void>((resolve) => systemClock.defer(resolve));
	const last = run.judge();
	const traceHash = scheduler.trace.digest();
	controlPlane.kill('the end');
	for (const node of nodes) node.reboot();
	return {
		seed,
		traceHash,
		violations: history.violations,
		events: run.events,
		tasks: last?.tasks.size ?? 0,
		executions: history.executions.size,
		crashes: controlPlane.lives - 1,
		tail: scheduler.trace.tail(),
	};
}

async function makeWorld(seed: number, { print }: RunOptions): Promise<World> {
	const rng = new SeededRng(`seed ${seed}`);
	const scheduler = new Scheduler(rng.fork('scheduler'), new Trace(print));
	const history = new History(() => scheduler.elapsedMs);
	const network = new Network(scheduler, rng.fork('network'));
	observe(network, history);
	// Making an authority takes as long as all the rest: only some seeds see a first start, and its crashes.
	const disks = seed % FIRST_START_EVERY === 0 ? undefined : await firstStart();
	// Making issuing CAs is dear, too.
	const rotates = seed % ROTATES_EVERY === 3;
	const controlPlane = new SimControlPlane({ scheduler, network, disks, print, rotates });
	const nodes = Array.from({ length: rng.int(1, 4) }, (_, index) => {
		const name = `node-${index + 1}`;
		const onExecution = (node: string, { taskId, attempt }: { taskId: string; attempt: number }) =>
			history.onExecution(node, taskId, attempt);
		const onJournalLost = (node: string) => history.onJournalLost(node);
		return new SimNode({ name, scheduler, network, rng: rng.fork(name), onExecution, onJournalLost, print });
	});
	const operator = new Operator(scheduler, rng.fork('operator'), controlPlane);
	const parts = { scheduler, network, controlPlane, nodes, history, operator, rng };
	const workload = new Workload({ ...parts, rng: rng.fork('workload') });
	const chaos = new Chaos({ ...parts, rng: rng.fork('chaos') });
	return { ...parts, workload, chaos };
}

class Run {
	readonly #world: World;
	readonly #images: ImageChecks;
	readonly #resources: ResourceCheck;
	events = 0;

	constructor(world: World) {
		this.#world = world;
		this.#images = new ImageChecks(world.history, world.controlPlane);
		this.#resources = new ResourceCheck(world.history);
	}

	/** False when it can't be done. */
	async enroll(): Promise<boolean> {
		const { scheduler, operator, controlPlane, nodes, rng } = this.#world;
		controlPlane.start();
		let waiting = nodes.length;
		for (const node of nodes) {
			void enroll(node, { scheduler, operator, controlPlane, rng: rng.fork(`enroll ${node.name}`) }).then(() => {
				node.startAgent();
				waiting -= 1;
			});
		}
		await scheduler.run(ENROLL_MAX_MS, () => this.#isOver() || waiting === 0);
		return waiting === 0;
	}

	async untilRest(healedMs: number): Promise<void> {
		const { scheduler, nodes, workload, history } = this.#world;
		while (!this.#isLost() && scheduler.elapsedMs < healedMs + REST_MAX_MS) {
			await scheduler.run(scheduler.elapsedMs + LOOK_MS, () => this.#isOver());
			const image = this.#images.look();
			checkExecutions(history);
			const isHealed = scheduler.elapsedMs > healedMs + LOOK_MS;
			if (isHealed && image !== undefined && isAtRest(image, nodes, workload)) return;
		}
	}

	/** What must hold now that it is over. */
	judge(): Image | undefined {
		const { history, controlPlane, nodes, workload } = this.#world;
		const last = this.#images.look();
		checkExecutions(history);
		if (last === undefined || history.violations.length > 0) return last;
		checkAtRest(history, last);
		checkSealed(history, last, controlPlane.anchor.heads);
		for (const node of nodes) checkNodeAtRest(history, node);
		if (workload.openCalls > 0) history.violate('everything-ends', `${workload.openCalls} calls were never answered`);
		return last;
	}

	/** After each event. */
	#isOver(): boolean {
		this.events += 1;
		this.#resources.look();
		return this.#isLost();
	}

	#isLost(): boolean {
		return this.#world.history.violations.length > 0 || this.events > EVENTS_MAX;
	}
}

/** Runs it twice, because what isn't the same twice can't be looked at again. */
export async function checkSeed(seed: number, options: RunOptions = {}): Promise<SeedResult> {
	const first = await runSeed(seed, options);
	const second = await runSeed(seed, options.sabotage === undefined ? {} : { sabotage: options.sabotage });
	if (first.traceHash === second.traceHash) return first;
	const checker: Checker = 'one-trace-per-seed';
	const message = `two runs differ: ${first.traceHash} after ${first.events} events, ${second.traceHash} after ${second.events}`;
	return { ...first, violations: [...first.violations, { checker, message, atMs: 0 }] };
}

let started: Promise<ControlPlaneDisks> | undefined;

/** The disks after an undisturbed first start: the same for all runs, so made once. */
function firstStart(): Promise<ControlPlaneDisks> {
	started ??= (async () => {
		const rng = new SeededRng('first start');
		const scheduler = new Scheduler(rng, new Trace());
		const network = new Network(scheduler, rng);
		const parts = { scheduler, network, disks: undefined, print: undefined, rotates: false };
		const controlPlane = new SimControlPlane(parts);
		controlPlane.start();
		await scheduler.run(2000, () => false);
		return controlPlane.disks();
	})();
	return started;
}

function observe(network: Network, history: History): void {
	network.observe(new SessionChecker(history));
	network.observe({
		onUpSent: (node, _connection, frame) => history.onUp(node, frame),
		onDownSent: () => {},
		onDownArrived: (node, _connection, frame) => history.onDown(node, frame),
	});
}

function isAtRest(image: Image, nodes: readonly SimNode[], workload: Workload): boolean {
	if (image.chain.length < image.leaves.length || workload.openCalls > 0 || [...image.tasks.values()].some(isOpen))
		return false;
	return nodes.every((node) => node.isUp && unackedOf(node) === 0 && node.host.runCount === 0);
}

function unackedOf(node: SimNode): number {
	return node.journal()?.facts.size ?? 0;
}

function checkNodeAtRest(history: History, node: SimNode): void {
	const unacked = unackedOf(node);
	if (unacked > 0) history.violate('everything-ends', `${node.name} still has ${unacked} unacknowledged facts`);
	if (node.host.runCount > 0)
		history.violate('everything-ends', `the host of ${node.name} still holds ${node.host.runCount} attempts`);
	if (!node.isUp) history.violate('everything-ends', `the agent of ${node.name} is not running`);
}

class ImageChecks {
	readonly #history: History;
	readonly #controlPlane: SimControlPlane;
	#before: Image | undefined;

	constructor(history: History, controlPlane: SimControlPlane) {
		this.#history = history;
		this.#controlPlane = controlPlane;
		controlPlane.onUp(() => void this.look());
	}

	look(): Image | undefined {
		const bytes = this.#controlPlane.image();
		if (bytes === null) return undefined;
		const image = readImage(bytes);
		checkImage(this.#history, image, this.#before);
		checkAudit(this.#history, image, this.#controlPlane.anchor.heads);
		this.#before = image;
		return image;
	}
}

/**
 * Sockets, threads and timers of the real world make a run that nobody can repeat: whoever opens one is found here.
 * Immediates are left out, since Node itself sets them to run finalizers; one of ours would never fire in a run, and
 * whoever waits for it would be found not to end.
 */
class ResourceCheck {
	readonly #history: History;
	readonly #baseline = openResources().length;

	constructor(history: History) {
		this.#history = history;
	}

	look(): void {
		const open = openResources();
		if (open.length > this.#baseline)
			this.#history.violate('no-open-resources', `a step left something of the real world open: ${open.join(', ')}`);
	}
}

function openResources(): string[] {
	return process.getActiveResourcesInfo().filter((kind) => kind !== 'Immediate');
}

/** Rejections that nobody handles, wherever they come from. */
function bugsOf(history: History): Disposable {
	const onRejection = (error: unknown) =>
		history.violate(
			'no-bugs',
			`an unhandled rejection: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
		);
	process.on('unhandledRejection', onRejection);
	return { [Symbol.dispose]: () => void process.off('unhandledRejection', onRejection) };
}
