import type { NodeRow } from '../../control-plane/store/port/nodes.ts';
import { systemClock } from '../../kit/clock.ts';

/** A node that was just enrolled and hasn't connected yet. */
export function nodeRow(id: string): NodeRow {
	return {
		id,
		name: `node-${id}`,
		state: 'enrolling',
		custody: 'platform',
		generation: 1,
		cordoned: false,
		cordonReason: '',
		locked: false,
		lockReason: '',
		labels: {},
		hostname: '',
		serial: '',
		agentVersion: '',
		bootId: '',
		instanceId: '',
		capabilities: [],
		enrolledAtMs: systemClock.now(),
		lastSeenAtMs: null,
		epoch: 0,
		fencingSeq: 0,
		factSeq: 0,
		renewalSeq: 1,
		recoveries: 0,
		bundleSeqAcked: 0,
		issuerKeyIdAcked: '',
		retiredAtMs: null,
		version: 1,
	};
}
