import { expect, test } from 'vitest';
import { AUDIT_HEAD } from '../../agent/control/audit-head.ts';
import { eventually } from '../eventually.ts';
import { auditFacts, headNote, startWorld } from './link-world.ts';

test('an agent connects, is welcomed, keeps its lease, and its facts are committed and forgotten', async () => {
	await using world = await startWorld({ appLimits: { leaseTtlFloorMs: 5000 } });
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
	await eventually('the agent kept the audit head', () => agent.journal.getSetting(AUDIT_HEAD) === headNote(3));
	expect(agent.control.state()).toMatchObject({ phase: 'connected', epoch: 1, replicaId: 'replica-1' });
	await agent.stop();
	await eventually('the end is recorded', async () => {
		const row = await world.store.read((tx) => tx.sessions.get(identity.nodeId));
		return row?.disconnectedAtMs !== null;
	});
	expect(world.registry.isConnected(identity.nodeId)).toBe(false);
});

test('an agent brings the largest audit head it was shown, and puts on record that the log went back', async () => {
	await using world = await startWorld({ appLimits: { leaseTtlFloorMs: 5000 } });
	const identity = await world.enroll();
	world.heads.note = headNote(5);
	const first = world.agent(identity);
	first.start();
	await eventually('the head is kept', () => first.journal.getSetting(AUDIT_HEAD) === headNote(5));
	await first.stop();

	world.heads.note = headNote(2);
	const second = world.agent(identity, { journal: first.journal });
	second.start();
	const said = async () =>
		(await world.store.read((tx) => tx.audit.listUnchained(1000))).filter(
			({ action }) => action === 'agent.audit.head-went-back',
		);
	await eventually('it is on record', async () => (await said()).length > 0);
	expect(world.heads.witnessed).toEqual(['', headNote(5)]);
	expect(Buffer.from((await said())[0]?.leaf ?? []).toString()).toMatch(/kept \S+ 5 \S+ shown \S+ 2 /);
	expect(second.journal.getSetting(AUDIT_HEAD)).toBe(headNote(5));
	// It goes on when the log does.
	world.heads.note = headNote(6);
	await eventually('the newer head is kept', () => second.journal.getSetting(AUDIT_HEAD) === headNote(6));
	expect(await said()).toHaveLength(1);
});
