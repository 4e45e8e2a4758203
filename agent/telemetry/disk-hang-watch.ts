import {
	HealthSource,
	HealthSubjectKind,
	HealthFactKind as Kind,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { SMART } from '../probe/disk-health.ts';
import { deviceOf, type HungDisk } from './disk-health.ts';
import type { Disk } from './disks.ts';
import type { HealthFacts } from './health-facts.ts';

/**
 * Disks that do not answer, as facts: which, since when, and what the kernel says of the process that waits for it. Said
 * when it begins, when its process turns out not to end, and when the disk answers again, also by the next agent.
 */
export class DiskHangWatch {
	readonly #facts: HealthFacts;
	/** By device or controller: whether its process was said to be left. */
	readonly #said = new Map<string, boolean>();

	constructor(facts: HealthFacts) {
		this.#facts = facts;
	}

	/** `smartOf`: one of SMART; undefined: nothing was said of the disk yet. */
	observe(disks: readonly Disk[], hung: readonly HungDisk[], smartOf: (device: string) => number | undefined): void {
		for (const hang of hung) this.#hung(hang, idOf(disks, hang.device));
		for (const { device } of disks) {
			const smart = smartOf(device);
			if (smart === undefined || smart === SMART.hung) continue;
			const asked = deviceOf(device);
			if (this.#said.delete(asked) || this.#facts.wasBad(nameOf(asked))) this.#answers(asked, idOf(disks, asked));
		}
	}

	#hung({ device, sinceMs, evidence, isLeft }: HungDisk, id: string): void {
		if (this.#said.get(device) === isLeft) return;
		const isOngoing = !this.#said.has(device) && this.#facts.wasBad(nameOf(device));
		this.#said.set(device, isLeft);
		const end = isLeft ? 'does not end, and no other is started before it is gone' : 'was ended';
		this.#facts.report({
			kind: Kind.DISK,
			subject: { kind: HealthSubjectKind.DISK, id },
			source: HealthSource.AGENT,
			code: 'hung',
			raw: `${device} has not answered since ${new Date(sinceMs).toISOString()}; ${evidence}; it ${end}`,
			before: 0,
			after: 1,
			isOngoing,
			state: { name: nameOf(device), isBad: true },
		});
	}

	#answers(device: string, id: string): void {
		this.#facts.report({
			kind: Kind.DISK,
			subject: { kind: HealthSubjectKind.DISK, id },
			source: HealthSource.AGENT,
			code: 'hung',
			raw: `${device} answers again`,
			before: 1,
			after: 0,
			state: { name: nameOf(device), isBad: false },
		});
	}
}

function nameOf(device: string): string {
	return `disk.hung/${device}`;
}

/** As the inventory calls it; a controller by its first namespace, and one that has none any more by itself. */
function idOf(disks: readonly Disk[], asked: string): string {
	return disks.find(({ device }) => deviceOf(device) === asked)?.id ?? asked;
}
