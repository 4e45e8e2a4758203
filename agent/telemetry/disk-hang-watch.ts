import {
	HealthSource,
	HealthSubjectKind,
	HealthFactKind as Kind,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { deviceOf, type HungDisk, hasSmart } from './disk-health.ts';
import type { Disk } from './disks.ts';
import type { HealthFacts } from './health-facts.ts';

/**
 * Disks that do not answer, as facts: which, since when, and what the kernel says of the process that waits for it. Said
 * when it begins, when its process turns out not to end, and when the disk answers again, also by the next agent. Only a
 * disk's own answer ends it, and it ends under the name under which it began: a controller that dies loses its namespaces,
 * and one that was removed and found again may have another number.
 */
export class DiskHangWatch {
	readonly #facts: HealthFacts;
	/** By device or controller: under which name it was said, and whether its process was said to be left. */
	readonly #said = new Map<string, { readonly id: string; readonly isLeft: boolean }>();

	constructor(facts: HealthFacts) {
		this.#facts = facts;
	}

	/** `hasAnswered`: what was said of the disk last, it said itself. */
	observe(disks: readonly Disk[], hung: readonly HungDisk[], hasAnswered: (device: string) => boolean): void {
		for (const hang of hung) this.#hung(hang, disks);
		const over = this.#reported().filter(({ device }) => !hung.some((hang) => hang.device === device));
		if (over.length === 0) return;
		const answering = disks.filter(({ device }) => hasAnswered(device));
		for (const one of over)
			if (answering.some(({ device, id }) => deviceOf(device) === one.device || id === one.id)) this.#answers(one);
	}

	#hung({ device, sinceMs, evidence, isLeft }: HungDisk, disks: readonly Disk[]): void {
		const said = this.#said.get(device);
		if (said?.isLeft === isLeft) return;
		const former = this.#reported().find((one) => one.device === device);
		const id = former?.id ?? idOf(disks, device);
		this.#said.set(device, { id, isLeft });
		const end = isLeft ? 'does not end, and no other is started before it is gone' : 'was ended';
		this.#facts.report({
			kind: Kind.DISK,
			subject: { kind: HealthSubjectKind.DISK, id },
			source: HealthSource.AGENT,
			code: 'hung',
			raw: `${device} has not answered since ${new Date(sinceMs).toISOString()}; ${evidence}; it ${end}`,
			before: 0,
			after: 1,
			isOngoing: said === undefined && former !== undefined,
			state: { name: nameOf({ device, id }), isBad: true },
		});
	}

	#answers({ device, id }: Reported): void {
		this.#said.delete(device);
		this.#facts.report({
			kind: Kind.DISK,
			subject: { kind: HealthSubjectKind.DISK, id },
			source: HealthSource.AGENT,
			code: 'hung',
			raw: `${device} answers again`,
			before: 1,
			after: 0,
			state: { name: nameOf({ device, id }), isBad: false },
		});
	}

	/** By this agent, or one before it, and not that it is over. */
	#reported(): readonly Reported[] {
		const names = [
			...this.#facts.badNames(PREFIX),
			// What the journal has not taken yet.
			...[...this.#said].map(([device, { id }]) => nameOf({ device, id })),
		];
		return [...new Set(names)].flatMap((name) => {
			const [, device, id] = NAME.exec(name) ?? [];
			return device === undefined || id === undefined ? [] : [{ device, id }];
		});
	}
}

interface Reported {
	/** `sda`, or the controller: `nvme0`. */
	readonly device: string;
	/** Of the fact's subject. */
	readonly id: string;
}

const PREFIX = 'disk.hung/';
const NAME = /^disk\.hung\/([^/]+)\/(.+)$/;

function nameOf({ device, id }: Reported): string {
	return `${PREFIX}${device}/${id}`;
}

/** As the inventory calls it; a controller by its first namespace, and one that has none any more by itself. */
function idOf(disks: readonly Disk[], asked: string): string {
	return disks.find(({ device }) => deviceOf(device) === asked && hasSmart(device))?.id ?? asked;
}
