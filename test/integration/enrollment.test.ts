import { describe, expect, it } from 'vitest';
import { loadIdentity } from '../../agent/identity/stored-identity.ts';
import { systemRng } from '../../kit/ids.ts';
import { World } from './enrollment-world.ts';

describe('enrollment', () => {
	it('gives a host an identity in one transaction', async () => {
		await using world = await World.start();
		const identity = await world.enroll(await world.token({ id: 't-1', labels: { rack: 'r1' } }), { serial: 'SN1' });
		const node = await world.node(identity.nodeId);
		expect(node).toMatchObject({ name: 'gpu-01', state: 'enrolling', generation: 1, serial: 'SN1', renewalSeq: 1 });
		expect(node.labels).toEqual({ rack: 'r1' });
		expect(await world.tokenRow('t-1')).toMatchObject({ state: 'used', nodeId: identity.nodeId });
		expect(await world.certificate(identity.credential().serial)).toMatchObject({ state: 'pending', generation: 1 });
		expect(await world.audited()).toEqual(['ca.create', 'certificates.issue', 'nodes.enroll']);
		expect(loadIdentity(identity.folder().path, systemRng)?.credential()).toEqual(identity.credential());
		expect(await world.authorize(identity)).toMatchObject({ kind: 'accepted', nodeId: identity.nodeId, generation: 1 });
		expect(await world.certificate(identity.credential().serial)).toMatchObject({ state: 'current' });
	});
});
