import type { RecordingDeps, RecordingPolicy } from '../../control-plane/app/recordings/deps.ts';
import type { RecordedTerminal } from '../../control-plane/app/recordings/recordings.ts';
import { Recordings } from '../../control-plane/app/recordings/recordings.ts';
import { assert, present } from '../../kit/assert.ts';
import { uuidv7 } from '../../kit/ids.ts';
import { generateSigner } from '../../pki/keys/signer.ts';
import type { ApiWorld } from './api-world.ts';

/** What records, on an API world: as the relay uses it, without a terminal behind. */
export const auditSigner = generateSigner('ed25519');

export function recordingDeps(world: ApiWorld, policy: Partial<RecordingPolicy> = {}): RecordingDeps {
	return {
		...world.deps,
		signer: auditSigner,
		policy: { mode: 'best_effort', recordsInput: false, bytesMax: 1 << 30, ...policy },
	};
}

export function terminalOf(world: ApiWorld, nodeId: string, change: Partial<RecordedTerminal> = {}): RecordedTerminal {
	return {
		id: uuidv7(world.deps.clock.now(), world.deps.rng),
		nodeId,
		command: 'bash',
		createdBy: 'ada',
		account: 'ubuntu',
		custody: 'platform',
		assignmentId: null,
		organization: null,
		project: null,
		generation: 1,
		...change,
	};
}

/** A sealed recording of a terminal of acme/train, or the next part of one; its id. */
export async function addRecording(
	world: ApiWorld,
	nodeId: string,
	output = 'hello\r\n',
	change: Partial<RecordedTerminal> = {},
): Promise<string> {
	const assignment = present(
		await world.deps.store.read((tx) => tx.assignments.openOfNodes([nodeId])).then(([row]) => row),
		'the node is assigned',
	);
	const { id: assignmentId, organization, project } = assignment;
	const recordings = new Recordings(recordingDeps(world));
	const terminal = terminalOf(world, nodeId, { assignmentId, organization, project, ...change });
	const opened = await recordings.open(terminal, undefined, () => {});
	assert(opened.kind === 'recording', 'it is recorded');
	opened.recorder.output(Buffer.from(output));
	await opened.recorder.end('the shell exited');
	const rows = await world.deps.store.read((tx) => tx.recordings.listParts(terminal.id, 100));
	return present(rows.at(-1), 'it has a row').id;
}
