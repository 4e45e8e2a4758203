import { expect, test } from 'vitest';
import { eventually } from '../eventually.ts';
import { auditFacts, startWorld } from './link-world.ts';

test('an agent connects, is welcomed, keeps its lease, and its facts are committed and forgotten', async () => {
	await using world = await startWorld({ appLimits: { leaseTtlFloorMs: 1000 } });
	const identity = await world.enroll();
	const agent = world.agent(identity);
	agent.journal.appendFacts(auditFacts(3));
	agent.start();
	await eventually('the session is open', () => world.registry.isConnected(identity.nodeId));
	await eventually('facts are acknowledged', () => agent.journal.usage().unackedFacts === 0);
	agent.journal.appendFacts(auditFacts(500));
	await eventually('more facts are acknowledged', () => agent.journal.usage().unackedFacts === 0);
	const seqs = world.committed.flatMap(({ facts }) => facts);
	expect(seqs).toEqual(Array.from({ length: 503 }, (_, index) => BigInt(index + 1)));
	const node = await world.store.read((tx) => tx.nodes.get(identity.nodeId));
	expect(node).toMatchObject({ epoch: 1, factSeq: 503, hostname: 'host-1', agentVersion: '0.1.0', state: 'available' });
	const before = await world.store.read((tx) => tx.sessions.get(identity.nodeId));
	await eventually('the lease moves', async () => {
		const now = await world.store.read((tx) => tx.sessions.get(identity.nodeId));
		return (now?.leaseUntilMs ?? 0) > (before?.leaseUntilMs ?? 0);
	});
	await eventually(
		'the agent kept the audit head',
		() => agent.journal.getSetting('link.audit_head') === 'a signed head',
	);
	expect(agent.control.state()).toMatchObject({ phase: 'connected', epoch: 1, replicaId: 'replica-1' });
	await agent.stop();
	await eventually('the end is recorded', async () => {
		const row = await world.store.read((tx) => tx.sessions.get(identity.nodeId));
		return row?.disconnectedAtMs !== null;
	});
	expect(world.registry.isConnected(identity.nodeId)).toBe(false);
});
