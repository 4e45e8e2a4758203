import { type Clock, every, type Timer } from '../../kit/clock.ts';
import type { Rng } from '../../kit/ids.ts';
import type { Logger } from '../../kit/log.ts';
import { Backoff } from '../../kit/retry.ts';
import { HealthFactKind, HealthSource, HealthSubjectKind } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { ProbeEvent } from '../probe/protocol.ts';
import type { HealthFacts } from './health-facts.ts';
import { Kmsg, type KmsgLook, type KmsgRecord } from './kmsg.ts';
import { normalisePci, parseDriverLine } from './xid.ts';

/**
 * XIDs: the kernel's log first, because it can't hang and says when; the driver's events second, for what the log didn't
 * say. Where it stands is kept across restarts, so that each XID of a boot is one fact. A log that can't be read is a
 * fact of its own, and the newest XID of a GPU is then unknown rather than none; it is opened again with backoff. Nothing
 * here throws: the sample that asks for a look must not end because a disk is full.
 */
export interface XidWatchOptions {
	readonly clock: Clock;
	readonly rng: Rng;
	readonly log: Logger;
	readonly facts: HealthFacts;
	/** Default /dev/kmsg. */
	readonly kmsgPath: string;
	readonly bootId: string;
	/** Milliseconds since boot on the kernel's clock: /proc/uptime. */
	readonly uptimeMs: () => number;
	/** `<boot id> <sequence>` of the newest record that became a fact. */
	readonly position: { readonly get: () => string | undefined; readonly put: (value: string) => void };
}

const LOOK_PERIOD_MS = 1000;
const REOPEN = { baseMs: 2000, maxMs: 300_000, floorMs: 1000 };
/** The same XID from both sources is one, if they are this close (plus how long ago the driver was asked). */
const SAME_MS = 2000;
const SEEN_MAX = 256;

interface Seen {
	readonly uuid: string;
	readonly code: number;
	readonly atMs: number;
}

export class XidWatch implements Disposable {
	readonly #options: XidWatchOptions;
	readonly #uuidByPci = new Map<string, string>();
	readonly #lastXid = new Map<string, number>();
	#seen: Seen[] = [];
	#kmsg: Kmsg | undefined;
	#timer: Timer | undefined;
	readonly #reopening: Backoff;
	#sequence: number;
	/** As far as the journal has it. */
	#keptSequence: number;
	#isKeepTold = false;
	/** The log can't be read, and that was told. */
	#isBroken = false;
	/** All that the kernel had when the log was opened was read. */
	#isCaughtUp = false;
	#eventsAtMs: number;

	constructor(options: XidWatchOptions) {
		this.#options = options;
		const [bootId, sequence] = (options.position.get() ?? '').split(' ');
		this.#sequence = bootId === options.bootId ? Number(sequence) : -1;
		this.#keptSequence = this.#sequence;
		this.#reopening = new Backoff(REOPEN, options.rng);
		this.#eventsAtMs = options.clock.monotonic();
	}

	/** After the GPUs are known, so that XIDs from before the agent started find theirs. */
	start(): void {
		const { clock, log, kmsgPath } = this.#options;
		try {
			this.#kmsg = new Kmsg(kmsgPath);
			this.#isCaughtUp = false;
		} catch (error) {
			this.#broken(error);
			return;
		}
		this.look();
		// The look found it broken, and opens it again later.
		if (this.#kmsg === undefined) return;
		this.#timer = every(
			clock,
			LOOK_PERIOD_MS,
			() => this.look(),
			(error) => log.error('the kernel log was not looked at', { error }),
		);
	}

	/** The driver's list: PCI address to UUID. */
	setGpus(gpus: readonly { readonly uuid: string; readonly pciBusId: string }[]): void {
		for (const { uuid, pciBusId } of gpus) this.#uuidByPci.set(normalisePci(pciBusId), uuid);
	}

	/** Of the newest XID of a GPU: 0 none, NaN unknown. An old one that is yet to be read must not look like a new one. */
	lastXid(uuid: string): number {
		if (this.#kmsg !== undefined && !this.#isCaughtUp) return Number.NaN;
		return this.#lastXid.get(uuid) ?? (this.#kmsg === undefined ? Number.NaN : 0);
	}

	look(): void {
		const kmsg = this.#kmsg;
		if (kmsg === undefined) return;
		let look: KmsgLook;
		try {
			look = kmsg.look();
		} catch (error) {
			this.#broken(error);
			return;
		}
		this.#works();
		if (look.isLost) {
			this.#options.facts.report({ kind: HealthFactKind.KMSG_LOST, source: HealthSource.KMSG });
		}
		for (const record of look.records) this.#take(record);
		this.#isCaughtUp ||= look.isAtEnd;
		this.#keep();
	}

	/** Events of the driver since the last sample: XIDs that the log has told already are not told again. */
	takeEvents(events: readonly ProbeEvent[]): void {
		this.look();
		const nowMs = this.#options.clock.monotonic();
		for (const { uuid, xid } of events) {
			if (xid === undefined) continue;
			const since = this.#eventsAtMs - SAME_MS;
			const isKnown = this.#seen.some((seen) => seen.uuid === uuid && seen.code === xid && seen.atMs >= since);
			if (!isKnown) this.#report('xid', uuid, xid, HealthSource.NVML, `NVML event of ${uuid}`, undefined);
		}
		this.#eventsAtMs = nowMs;
	}

	[Symbol.dispose](): void {
		this.#timer?.cancel();
		this.#kmsg?.[Symbol.dispose]();
		this.#kmsg = undefined;
	}

	#take({ sequence, atUs, text }: KmsgRecord): void {
		const line = parseDriverLine(text);
		if (line === undefined) return;
		if (line.kind === 'identity') {
			this.#uuidByPci.set(line.pciAddress, line.uuid);
			return;
		}
		const uuid = this.#uuidByPci.get(line.pciAddress) ?? '';
		if (line.kind === 'xid') this.#lastXid.set(uuid, line.code);
		if (sequence <= this.#sequence) return;
		this.#sequence = sequence;
		const { clock, uptimeMs } = this.#options;
		const observedAtMs = clock.now() - Math.max(0, uptimeMs() - atUs / 1000);
		if (line.kind === 'fallen-off-bus') this.#fallen(uuid, text, observedAtMs);
		else this.#report(line.kind, uuid, line.code, HealthSource.KMSG, text, observedAtMs);
	}

	#report(
		kind: 'xid' | 'sxid',
		uuid: string,
		code: number,
		source: HealthSource,
		raw: string,
		observedAtMs: number | undefined,
	): void {
		const { facts, clock } = this.#options;
		if (kind === 'xid') {
			this.#lastXid.set(uuid, code);
			this.#seen = [...this.#seen.slice(1 - SEEN_MAX), { uuid, code, atMs: clock.monotonic() }];
		}
		facts.report({
			kind: kind === 'xid' ? HealthFactKind.XID : HealthFactKind.SXID,
			...(uuid === '' ? {} : { subject: { kind: HealthSubjectKind.GPU, id: uuid } }),
			source,
			code: `${kind}:${code}`,
			raw,
			after: code,
			...(observedAtMs === undefined ? {} : { observedAtMs }),
		});
	}

	#fallen(uuid: string, raw: string, observedAtMs: number): void {
		this.#options.facts.report({
			kind: HealthFactKind.FALLEN_OFF_BUS,
			...(uuid === '' ? {} : { subject: { kind: HealthSubjectKind.GPU, id: uuid } }),
			source: HealthSource.KMSG,
			raw,
			observedAtMs,
		});
	}

	/** A journal that takes nothing is tried again with each look: until then a restart would tell the same XIDs again. */
	#keep(): void {
		if (this.#sequence <= this.#keptSequence) return;
		const { bootId, log, position } = this.#options;
		try {
			position.put(`${bootId} ${this.#sequence}`);
		} catch (error) {
			if (!this.#isKeepTold) log.error('how far the kernel log was read could not be kept; trying again', { error });
			this.#isKeepTold = true;
			return;
		}
		this.#keptSequence = this.#sequence;
		this.#isKeepTold = false;
	}

	#works(): void {
		this.#reopening.reset();
		if (this.#isBroken) this.#options.log.info('the kernel log can be read again');
		this.#isBroken = false;
	}

	/** Opened again it begins with its oldest record: what is a fact already is known by its number. */
	#broken(error: unknown): void {
		const { clock, log, kmsgPath: path, facts } = this.#options;
		this[Symbol.dispose]();
		this.#timer = clock.setTimer(() => this.start(), this.#reopening.nextMs());
		if (this.#isBroken) return;
		this.#isBroken = true;
		const code = (error as NodeJS.ErrnoException).code ?? 'EIO';
		log.warn('the kernel log can not be read: until it can, XIDs come from the driver only', { path, code });
		facts.report({
			kind: HealthFactKind.KMSG_UNAVAILABLE,
			source: HealthSource.AGENT,
			code: code === 'EACCES' ? 'EPERM' : code,
			raw: path,
			isOngoing: true,
		});
	}
}
