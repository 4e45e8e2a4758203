import { ConnectError } from '@connectrpc/connect';
import type { TerminalRow } from '../../control-plane/store/port/terminals.ts';
import { uuidv7 } from '../../kit/ids.ts';
import { ErrorInfoSchema } from '../../proto/gen/google/rpc/error_details_pb.ts';
import { AttachMode, TerminalService } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import type { ApiWorld } from './api-world.ts';
import type { RawAnswer } from './raw-api.ts';

/** A terminal of the node's assignment that has ended: attaching to it ends at once. Its id. */
export async function addTerminal(
	world: ApiWorld,
	nodeId: string,
	createdBy = 'ada',
	more: Partial<TerminalRow> = {},
): Promise<string> {
	const { clock, rng, store } = world.deps;
	const id = uuidv7(clock.now(), rng);
	await store.unit(function* (tx) {
		const [assignment] = yield* tx.assignments.openOfNodes([nodeId]);
		yield* tx.terminals.insert({
			id,
			nodeId,
			kind: 'shell',
			tty: true,
			state: 'closed',
			permission: 'terminals.open',
			command: 'bash',
			createdBy,
			createdByName: 'Ada',
			credentialId: '',
			account: 'ubuntu',
			purpose: '',
			createdAtMs: 1,
			openedAtMs: 2,
			closedAtMs: 3,
			detachedAtMs: null,
			expiresAtMs: 4,
			graceMs: 1000,
			idleMs: 0,
			exitCode: 0,
			signal: null,
			reason: 'TERMINAL_EXITED',
			message: '',
			custody: 'platform',
			assignmentId: assignment?.id ?? null,
			organization: assignment?.organization ?? null,
			project: assignment?.project ?? null,
			generation: 1,
			correlationId: 'c',
			...more,
		});
	});
	return id;
}

/** AttachTerminal needs HTTP/2, so no raw call: its outcome in the form of one. */
export async function attach(world: ApiWorld, key: string | undefined, terminalId: string): Promise<RawAnswer> {
	const requests = (async function* () {
		yield { terminalId, message: { case: 'attach' as const, value: { mode: AttachMode.OBSERVE } } };
	})();
	try {
		for await (const _ of world.client(TerminalService, key ?? '').attachTerminal(requests)) break;
		return { status: 200, headers: {}, body: Buffer.alloc(0) };
	} catch (thrown) {
		const error = ConnectError.from(thrown);
		const reason = error.findDetails(ErrorInfoSchema)[0]?.reason ?? error.rawMessage;
		return { status: 200, headers: {}, body: Buffer.from(JSON.stringify({ reason, message: error.rawMessage })) };
	}
}
