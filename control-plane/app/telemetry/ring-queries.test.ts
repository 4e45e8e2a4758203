import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { systemClock, yieldTurn } from '../../../kit/clock.ts';
import { systemRng } from '../../../kit/ids.ts';
import { VirtualClock } from '../../../kit/virtual-clock.ts';
import { HistoryAnswerSchema } from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { AgentSessions, HistoryQueryCommand } from '../sessions/agent-sessions.ts';
import { RingQueries } from './ring-queries.ts';

function setUp(isConnected = true) {
	const clock = new VirtualClock();
	const asked: HistoryQueryCommand[] = [];
	const sessions = {
		queryHistory: (_nodeId: string, query: HistoryQueryCommand) => isConnected && asked.push(query) > 0,
	} as Partial<AgentSessions> as AgentSessions;
	const limits = { ringTimeoutMs: 3000, ringQueriesMax: 2 };
	const rings = new RingQueries({ clock, rng: systemRng, sessions, limits });
	const ask = (nodeId = 'n') =>
		rings.ask(nodeId, { part: 'gpu', id: '', keys: ['a'], fromMs: 0, untilMs: 1, pointsMax: 1 });
	const answer = (nodeId: string, index = 0) =>
		rings.answer(nodeId, create(HistoryAnswerSchema, { queryId: asked[index]?.queryId ?? '' }));
	return { clock, rings, ask, answer };
}

test('an answer ends the wait; one of another node does not, and one that came too late is dropped', async () => {
	const { clock, rings, ask, answer } = setUp();
	const asking = ask();
	let isAnswered = false;
	void asking.then(() => {
		isAnswered = true;
	});
	answer('other');
	await yieldTurn(systemClock);
	expect(isAnswered).toBe(false);
	answer('n');
	expect(await asking).toMatchObject({ refusal: '' });
	const late = ask();
	clock.advance(3000);
	expect(await late).toBeUndefined();
	answer('n', 1);
	expect(rings.unanswered).toBe(1);
});

test('who is away, and one question too many, is not waited for', async () => {
	const atOnce = (answer: Promise<unknown>) =>
		Promise.race([answer, yieldTurn(systemClock).then(() => 'it is waited for')]);
	expect(await atOnce(setUp(false).ask())).toBeUndefined();
	const { ask } = setUp();
	expect(await atOnce(ask())).toBe('it is waited for');
	void ask();
	expect(await atOnce(ask())).toBeUndefined();
});
