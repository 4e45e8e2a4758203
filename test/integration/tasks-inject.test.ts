import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parsePolicy } from '../../agent/tasks/policy.ts';
import { systemClock } from '../../kit/clock.ts';
import { InjectFaultSpecSchema } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { HealthFactKind, HealthSubjectKind } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { startTasksWorld, type TasksWorld } from './tasks-world.ts';

/** Signed tasks that ask an agent to say that something is wrong; health-agent.test.ts has what becomes of it. */
let tasks: TasksWorld;
beforeAll(async () => {
	tasks = await startTasksWorld();
});
afterAll(() => tasks[Symbol.asyncDispose]());

test('an agent says faults that were asked for, where the policy permits it', async () => {
	const drilled = await tasks.newNode();
	const policy = parsePolicy('[tasks]\nkinds = ["inject_fault"]', 'agent.policy.toml');
	const said: string[] = [];
	let isBroken = true;
	const injectFaults = (injection: string, faults: readonly { readonly code: string }[], endsAtMs: number) => {
		said.push(`${injection} ${faults.map(({ code }) => code).join()} ${endsAtMs}`);
		if (isBroken) throw new Error('no journal');
	};
	const faults = [{ kind: HealthFactKind.XID, code: 'xid:79', subject: { kind: HealthSubjectKind.GPU, id: 'GPU-1' } }];
	const specUntil = (endsAtMs: number) => {
		const value = create(InjectFaultSpecSchema, { faults, endsAt: timestampFromMs(endsAtMs) });
		return { kind: { case: 'injectFault' as const, value } };
	};
	const endsAtMs = systemClock.now() + 3_600_000;
	const spec = specUntil(endsAtMs);
	const node = await drilled.start({ policy, platform: { injectFaults } });
	const failed = await tasks.submit(drilled.identity.nodeId, spec);
	expect(await tasks.ended(failed)).toMatchObject({
		state: 'failed',
		message: expect.stringMatching(/could not be said: no journal/),
	});
	isBroken = false;
	const id = await tasks.submit(drilled.identity.nodeId, spec);
	expect(await tasks.ended(id)).toMatchObject({ state: 'succeeded' });
	// One whose time is over is no drill any more, and is never said.
	const late = await tasks.submit(drilled.identity.nodeId, specUntil(9000));
	expect(await tasks.ended(late)).toMatchObject({ state: 'timed_out', reason: 'TIMED_OUT' });
	expect(said).toEqual([`${failed} xid:79 ${endsAtMs}`, `${id} xid:79 ${endsAtMs}`]);
	await node.stop();
	const other = await tasks.newNode();
	await other.start();
	const refused = await tasks.submit(other.identity.nodeId, spec);
	expect(await tasks.ended(refused)).toMatchObject({ state: 'refused', reason: 'POLICY_KIND' });
});
