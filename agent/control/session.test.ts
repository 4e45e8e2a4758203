import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { expect, test } from 'vitest';
import { present } from '../../kit/assert.ts';
import { systemClock, type Timer, yieldTurn } from '../../kit/clock.ts';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import {
	CloseCode,
	type CloseSchema,
	type ConnectRequest,
	type ConnectResponse,
	ConnectResponseSchema,
	type WelcomeSchema,
} from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { AgentIdentity } from '../identity/identity.ts';
import { MemoryJournal } from '../journal/memory.ts';
import { CONTROL_LIMITS_DEFAULT } from './control-deps.ts';
import type { ClientListener, LinkConnection, StreamEnd } from './link-transport.ts';
import { Control } from './session.ts';

/** How the agent comes back: when it dials again is the control plane's to slow down, and a long link's to make quick. */
const HOUR_MS = 3_600_000;
/** Each wait is half of what it may be at most. */
const LUCK = 0.5;

/** One dial, and what the gateway makes of it. */
class Dial {
	readonly #listener: ClientListener<ConnectResponse>;

	constructor(listener: ClientListener<ConnectResponse>) {
		this.#listener = listener;
	}

	welcome(fields: MessageInitShape<typeof WelcomeSchema> = {}): void {
		// No heartbeat of these tests must be answered.
		this.#say({ case: 'welcome', value: { epoch: 1n, leaseTtl: durationFromMs(HOUR_MS), ...fields } });
	}

	/** A lease that is renewed. */
	leaseAck(leaseTtlMs: number): void {
		this.#say({ case: 'leaseAck', value: { leaseTtl: durationFromMs(leaseTtlMs) } });
	}

	close(fields: MessageInitShape<typeof CloseSchema>): void {
		this.#say({ case: 'close', value: fields });
		this.end();
	}

	end(end: Partial<StreamEnd> = {}): void {
		this.#listener.onClosed({ code: 'UNAVAILABLE', reason: '', message: 'gone', retryAfterMs: 0, ...end });
	}

	#say(message: NonNullable<MessageInitShape<typeof ConnectResponseSchema>['message']>): void {
		this.#listener.onFrame(create(ConnectResponseSchema, { message }));
	}
}

function start({ clock = new VirtualClock(), confirmCredential = (_serial: string) => {} } = {}) {
	const dials: Dial[] = [];
	const sent: (string | undefined)[] = [];
	const renewals: string[] = [];
	const connect = (listener: ClientListener<ConnectResponse>) => {
		dials.push(new Dial(listener));
		const send = ({ message }: ConnectRequest) => sent.push(message.case) > 0;
		return { send, end: () => {}, cancel: () => {} };
	};
	let credential = { serial: 'ab', issuerKeyId: 'issuer' };
	let bundle = { seq: 1 };
	let changed = () => {};
	const identity = {
		nodeId: 'node',
		generation: 1,
		trustDomain: 'test',
		gateways: ['a:1'],
		credential: () => credential,
		bundle: () => bundle,
		renewalSeq: () => 1,
		confirmCredential,
		onChange: (listener: () => void) => {
			changed = listener;
		},
	} as unknown as AgentIdentity;
	const control = new Control({
		clock,
		rng: { bytes: (length) => new Uint8Array(length), float: () => LUCK },
		log: silentLogger,
		transport: { open: () => ({ connect, close: () => {} }) as unknown as LinkConnection },
		identity,
		journal: new MemoryJournal(),
		commands: { attempts: () => [], takeDeclined: () => [], runningCount: () => 0, handle: () => {} },
		host: { bootId: 'boot', agentVersion: 'test', capabilities: [], hostname: 'host', instanceId: 'instance' },
		limits: CONTROL_LIMITS_DEFAULT,
		onRenewNow: (reason) => void renewals.push(reason),
		onTelemetryPlan: () => {},
		telemetryDropped: () => 0,
		prepare: async () => {},
	});
	const stop = new AbortController();
	const running = control.run(stop.signal);
	const newest = async (count: number): Promise<Dial> => {
		await expect.poll(() => dials.length).toBe(count);
		return present(dials.at(-1), 'a dial');
	};
	/** The pause that it has chosen, to its end. */
	const pause = async (): Promise<number> => {
		await expect.poll(() => control.state().phase).toBe('waiting');
		const delayMs = present(control.state().nextAttemptInMs, 'the next attempt');
		clock.advance(delayMs);
		return delayMs;
	};
	return {
		clock,
		control,
		sent,
		renewals,
		newest,
		pause,
		renewed(serial: string) {
			credential = { ...credential, serial };
			changed();
		},
		newBundle() {
			bundle = { seq: bundle.seq + 1 };
			changed();
		},
		async [Symbol.asyncDispose]() {
			stop.abort();
			// The goodbye of a link that nobody answers.
			const phase = () => {
				clock.advance(CONTROL_LIMITS_DEFAULT.goodbyeMs);
				return control.state().phase;
			};
			await expect.poll(phase).toBe('stopped');
			await running;
		},
	};
}

async function connected(control: Control): Promise<void> {
	await expect.poll(() => control.state().phase).toBe('connected');
}

test('a gateway that says when to come again is asked no sooner, however it says it', async () => {
	await using agent = start();
	const first = await agent.newest(1);
	// In the status, as a full gateway refuses a Hello.
	first.end({ code: 'RESOURCE_EXHAUSTED', reason: 'RATE_LIMITED', retryAfterMs: 45_000 });
	expect(await agent.pause()).toBe(45_000);
	// In the frame that closes a live link, as a gateway that stops does.
	const second = await agent.newest(2);
	second.welcome();
	await connected(agent.control);
	second.close({ code: CloseCode.SHUTTING_DOWN, retryAfter: durationFromMs(90_000) });
	expect(await agent.pause()).toBe(90_000);
	// And it binds once: the next failure is an ordinary one, the third in turn.
	(await agent.newest(3)).end();
	expect(await agent.pause()).toBe(LUCK * 4 * CONTROL_LIMITS_DEFAULT.backoffBaseMs);
});

test('the control plane bounds the pauses of its fleet', async () => {
	await using agent = start();
	for (let dial = 1; dial <= 7; dial += 1) {
		(await agent.newest(dial)).end();
		const delayMs = await agent.pause();
		expect(delayMs).toBe(LUCK * Math.min(20_000, 1000 * 2 ** (dial - 1)));
	}
	const link = await agent.newest(8);
	link.welcome({ reconnectMax: durationFromMs(120_000) });
	await connected(agent.control);
	link.end();
	const delays = [await agent.pause()];
	for (let dial = 9; dial <= 17; dial += 1) {
		(await agent.newest(dial)).end();
		delays.push(await agent.pause());
	}
	expect(delays.map((delayMs) => delayMs / LUCK / 1000)).toEqual([1, 2, 4, 8, 16, 32, 64, 120, 120, 120]);
});

test('an agent says that it lives three times in a lease, the first time at once, and the server sets how long that is', async () => {
	await using agent = start();
	const link = await agent.newest(1);
	link.welcome({ leaseTtl: durationFromMs(30_000) });
	await connected(agent.control);
	const heartbeats = () => agent.sent.filter((message) => message === 'heartbeat').length;
	expect(heartbeats()).toBe(1);
	agent.clock.advance(9_999);
	expect(heartbeats()).toBe(1);
	agent.clock.advance(1);
	expect(heartbeats()).toBe(2);
	// A fleet that grew.
	link.leaseAck(90_000);
	agent.clock.advance(10_000);
	expect(heartbeats()).toBe(3);
	agent.clock.advance(29_999);
	expect(heartbeats()).toBe(3);
	agent.clock.advance(1);
	expect(heartbeats()).toBe(4);
	expect(agent.control.state().leaseTtlMs).toBe(90_000);
});

test('an agent that is told so at its Welcome renews its certificate at once', async () => {
	await using agent = start();
	(await agent.newest(1)).welcome({ renewNow: true });
	await connected(agent.control);
	expect(agent.renewals).toHaveLength(1);
	(await agent.newest(1)).end();
	await agent.pause();
	(await agent.newest(2)).welcome();
	await connected(agent.control);
	expect(agent.renewals).toHaveLength(1);
});

test('an agent that stops says goodbye on the link that it has', async () => {
	const agent = start();
	(await agent.newest(1)).welcome();
	await connected(agent.control);
	await agent[Symbol.asyncDispose]();
	expect(agent.sent.at(-1)).toBe('goodbye');
});

test('only a link that lasted makes the next failure the first again', async () => {
	await using agent = start();
	// Promised: two minutes make it the first again, whose wait is at most a second.
	const stableMs = 120_000;
	const backoffBaseMs = 1000;
	(await agent.newest(1)).end();
	expect(await agent.pause()).toBe(LUCK * backoffBaseMs);
	const short = await agent.newest(2);
	short.welcome();
	await connected(agent.control);
	agent.clock.advance(stableMs - 1);
	short.end();
	expect(await agent.pause()).toBe(LUCK * 2 * backoffBaseMs);
	const long = await agent.newest(3);
	long.welcome();
	await connected(agent.control);
	agent.clock.advance(stableMs);
	long.end();
	expect(await agent.pause()).toBe(LUCK * backoffBaseMs);
});

test.each([
	['revoked', CloseCode.REVOKED],
	['locked', CloseCode.LOCKED],
	['of an older image', CloseCode.STALE_GENERATION],
])('an agent that is %s asks once a minute whether it may come back', async (_, code) => {
	await using agent = start();
	(await agent.newest(1)).close({ code });
	expect(await agent.pause()).toBe(60_000 * (0.5 + LUCK));
	(await agent.newest(2)).close({ code });
	expect(await agent.pause()).toBe(60_000 * (0.5 + LUCK));
});

test('an agent whose place was taken leaves it to the other for as long as it may wait at most', async () => {
	await using agent = start();
	const link = await agent.newest(1);
	link.welcome({ reconnectMax: durationFromMs(40_000) });
	await connected(agent.control);
	link.close({ code: CloseCode.SUPERSEDED });
	expect(await agent.pause()).toBe(40_000 * (0.5 + LUCK));
});

test('a renewed credential that the disk does not take as confirmed costs no link', async () => {
	let isFull = false;
	const confirmed: string[] = [];
	const confirmCredential = (serial: string) => {
		if (isFull) throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
		confirmed.push(serial);
	};
	await using agent = start({ confirmCredential });
	const first = await agent.newest(1);
	first.welcome();
	await connected(agent.control);
	const told: boolean[] = [];
	agent.control.onConnection((connection) => told.push(connection !== undefined));
	isFull = true;
	agent.renewed('cd');
	agent.clock.advance(0);
	const second = await agent.newest(2);
	second.welcome();
	// What opens streams of its own has moved, and the former link is left.
	await expect.poll(() => told).toEqual([true, true]);
	isFull = false;
	second.end();
	await agent.pause();
	expect(told).toEqual([true, true, false]);
	(await agent.newest(3)).welcome();
	await connected(agent.control);
	await expect.poll(() => confirmed).toEqual(['ab', 'cd']);
});

/** Rings too early, as a coarse clock does. */
class EarlyClock extends VirtualClock {
	override setTimer(callback: () => void, delayMs: number): Timer {
		return super.setTimer(callback, delayMs > EARLY_MS ? delayMs - EARLY_MS : delayMs);
	}
}
const EARLY_MS = 5;

test('a link moves to a new bundle also when the clock wakes it too early', async () => {
	const clock = new EarlyClock();
	await using agent = start({ clock });
	(await agent.newest(1)).welcome();
	await connected(agent.control);
	agent.newBundle();
	clock.advance(LUCK * CONTROL_LIMITS_DEFAULT.bundleMoveSpreadMs - EARLY_MS);
	await yieldTurn(systemClock);
	clock.advance(EARLY_MS);
	(await agent.newest(2)).welcome();
});

test('an agent that recovered its credential does not wait out the pause of the one before', async () => {
	await using agent = start();
	(await agent.newest(1)).close({ code: CloseCode.REVOKED });
	await expect.poll(() => agent.control.state().phase).toBe('waiting');
	// News of another kind is no reason.
	agent.newBundle();
	agent.clock.advance(LUCK * CONTROL_LIMITS_DEFAULT.bundleMoveSpreadMs);
	await yieldTurn(systemClock);
	expect(agent.control.state().phase).toBe('waiting');
	agent.renewed('cd');
	agent.clock.advance(0);
	// What a server asks for binds whoever asks.
	(await agent.newest(2)).end({ code: 'RESOURCE_EXHAUSTED', reason: 'RATE_LIMITED', retryAfterMs: 45_000 });
	await expect.poll(() => agent.control.state().phase).toBe('waiting');
	agent.renewed('ef');
	agent.clock.advance(44_999);
	await yieldTurn(systemClock);
	expect(agent.control.state().phase).toBe('waiting');
	agent.clock.advance(1);
	await agent.newest(3);
});
