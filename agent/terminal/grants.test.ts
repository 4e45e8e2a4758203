import { create, toBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { beforeAll, expect, test } from 'vitest';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { issueTestLeaf, makeTestPki, TEST_NOW_MS, type TestPki } from '../../pki/ca/test-pki.ts';
import { generateSigner } from '../../pki/keys/signer.ts';
import { signDsseSync } from '../../pki/verify/dsse.ts';
import { CHANNEL_GRANT_TYPE } from '../../pki/verify/task.ts';
import {
	ChannelGrantSchema,
	type ChannelOpen,
	type ChannelRequest,
} from '../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import type { LinkConnection } from '../control/link-transport.ts';
import { MemoryJournal } from '../journal/memory.ts';
import type { ChannelStatus, OpenRequest, PtyHost } from '../pty-host/pty-host.ts';
import { DeviceGuard } from '../tasks/device-guard.ts';
import { parsePolicy } from '../tasks/policy.ts';
import { Terminals, type TerminalsDeps } from './terminals.ts';

/** A signed order opens one terminal, once: not again when it comes again, after a restart of the agent or of its host. */
const NODE = uuidv7(TEST_NOW_MS, systemRng);
const signer = generateSigner('ed25519');
let pki: TestPki;
let certificate: Uint8Array;
beforeAll(async () => {
	pki = await makeTestPki();
	certificate = (await issueTestLeaf(pki, { kind: 'task-signer', id: 'tasks-1' }, signer)).certificateDer;
});

const policy = parsePolicy(
	'[terminal]\nmodes = ["shell"]\nusers = ["jane"]\ndefault_user = "jane"\nshells = ["/**"]\n',
	'policy.toml',
);

/** What outlives an agent: the journal, and the pty host. */
class World {
	readonly clock = new VirtualClock(TEST_NOW_MS);
	journal = new MemoryJournal();
	grantsMax = 64;
	fault: 'FULL' | undefined;
	readonly opened: string[] = [];
	/** What the pty host has. */
	readonly channels: ChannelStatus[] = [];
	/** Of the streams that the agent opened: the channel, and how it ended. */
	said: string[] = [];

	order(channelId: string, organization = 'acme', createdBy = 'ada'): ChannelOpen {
		const grant = create(ChannelGrantSchema, {
			channelId,
			nodeId: NODE,
			generation: 2,
			notBefore: timestampFromMs(TEST_NOW_MS),
			notAfter: timestampFromMs(TEST_NOW_MS + 60_000),
			spec: { kind: { case: 'shell', value: {} } },
			createdBy,
			assignment: { organization },
		});
		return { grant: signDsseSync(CHANNEL_GRANT_TYPE, toBinary(ChannelGrantSchema, grant), signer) } as ChannelOpen;
	}

	host(): PtyHost {
		return {
			list: async () => this.channels,
			open: async ({ id, user }: OpenRequest) => {
				this.opened.push(id);
				this.channels.push({ id, user, tty: true, offsets: { stdin: 0, stdout: 0, stderr: 0 } });
				return { kind: 'OPENED', pid: 1 };
			},
			attach: async () => undefined,
		} as unknown as PtyHost;
	}

	/** The agent as it starts; from `committed` on as after kill -9. */
	agent(): Terminals {
		const { grantsMax } = this;
		this.journal = new MemoryJournal({ state: this.journal.committed(), fault: () => this.fault, grantsMax });
		const terminals = new Terminals({
			clock: this.clock,
			log: silentLogger,
			identity: {
				nodeId: NODE,
				generation: 2,
				trustDomain: pki.trustDomain,
				bundle: () => ({ taskSigners: [certificate] }),
			},
			journal: this.journal,
			policy,
			devices: new DeviceGuard({ clock: this.clock, log: silentLogger, policy, read: () => [] }),
			platform: { findAccount: () => ({ home: '/', shell: '/bin/sh' }), isExecutable: () => true, gateways: [] },
			sendInventory: () => true,
		} as unknown as TerminalsDeps);
		const channel = () => ({
			send: ({ message }: ChannelRequest) => {
				if (message.case === 'hello') this.said.push(message.value.channelId);
				if (message.case === 'end') this.said.push(message.value.reason);
				return true;
			},
			end: () => {},
			cancel: () => {},
		});
		terminals.setConnection({ channel } as unknown as LinkConnection);
		return terminals;
	}

	actions(): readonly string[] {
		return this.journal
			.listFacts(0n, 100)
			.map(({ fact }) =>
				fact.case === 'agentAudit'
					? `${fact.value.action} ${/POLICY_\w+|ENVELOPE_\w+/.exec(fact.value.detail)?.[0] ?? ''}`.trim()
					: '',
			);
	}
}

const settled = async () => {
	for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
};

test('a grant that was used opens nothing again: while its channel lives, after its end, after restarts', async () => {
	const world = new World();
	const id = uuidv7(TEST_NOW_MS, systemRng);
	const first = world.agent();
	await first.attachHost(world.host());
	first.open(world.order(id));
	await settled();
	first.open(world.order(id));
	await settled();
	expect([world.opened, world.said]).toEqual([[id], [id]]);

	// The agent is killed; the order comes before the pty host has said what it has.
	world.said = [];
	const second = world.agent();
	second.open(world.order(id));
	expect(world.said).toEqual([]);
	await second.attachHost(world.host());
	expect([world.opened, world.said]).toEqual([[id], [id]]);

	// The host has died, too, and knows nothing: the journal does.
	world.said = [];
	world.channels.length = 0;
	const third = world.agent();
	await third.attachHost(world.host());
	third.open(world.order(id));
	await settled();
	expect([world.opened, world.said]).toEqual([[id], [id, 'ENVELOPE_REPLAYED']]);
	expect(world.actions()).toEqual([
		'terminals.open',
		'terminals.refuse ENVELOPE_REPLAYED',
		'terminals.refuse ENVELOPE_REPLAYED',
	]);
	// With the person whom the order names, in the agent's own words.
	const [opened] = world.journal.listFacts(0n, 1);
	const detail = opened?.fact.case === 'agentAudit' ? opened.fact.value.detail : '{}';
	expect(JSON.parse(detail)).toMatchObject({ channel: id, by: 'ada', kind: 'shell', user: 'jane' });
});

test('an order that came before its host was there is refused when the host does not know it', async () => {
	const world = new World();
	const id = uuidv7(TEST_NOW_MS, systemRng);
	world.agent().open(world.order(id));
	await settled();
	world.said = [];
	const second = world.agent();
	second.open(world.order(id));
	await second.attachHost(world.host());
	expect([world.opened, world.said]).toEqual([[], [id, 'ENVELOPE_REPLAYED']]);
});

test('what the journal does not take does not happen, and why is said', async () => {
	const world = new World();
	const id = uuidv7(TEST_NOW_MS, systemRng);
	const agent = world.agent();
	await agent.attachHost(world.host());
	world.fault = 'FULL';
	agent.open(world.order(id));
	await settled();
	expect([world.opened, world.said]).toEqual([[], [id, 'DISK_FULL']]);
});

/** A shell lives, its agent was killed, and the order comes once more before the pty host has said what it has. */
async function redelivered(change: (world: World) => void): Promise<unknown> {
	const world = new World();
	const id = uuidv7(TEST_NOW_MS, systemRng);
	const first = world.agent();
	await first.attachHost(world.host());
	first.open(world.order(id));
	await settled();
	world.said = [];
	change(world);
	const second = world.agent();
	second.open(world.order(id));
	const before = [...world.said];
	await second.attachHost(world.host());
	expect(world.opened).toEqual([id]);
	return { before, after: world.said.map((said) => (said === id ? 'the shell' : said)) };
}

test.each<[string, (world: World) => void]>([
	['has room for no more orders', (world) => Object.assign(world, { grantsMax: 1 })],
	['is on a full disk', (world) => Object.assign(world, { fault: 'FULL' })],
])('a shell that lives is not told to be over while the journal %s', async (_, change) => {
	expect(await redelivered(change)).toEqual({ before: [], after: ['the shell'] });
});

test('a shell that lives is not told to be over because its order is stale by now', async () => {
	const change = (world: World) => {
		world.clock.advance(3_600_000);
		world.fault = 'FULL';
	};
	expect(await redelivered(change)).toEqual({ before: [], after: ['the shell'] });
});

test('a new order that came before the host, with a full disk, is refused when the host has no such channel', async () => {
	const world = new World();
	const id = uuidv7(TEST_NOW_MS, systemRng);
	world.fault = 'FULL';
	const agent = world.agent();
	agent.open(world.order(id));
	await agent.attachHost(world.host());
	expect([world.opened, world.said]).toEqual([[], [id, 'DISK_FULL']]);
});

test('one organization that opens all it may leaves room for others and for the platform, and one person for others of it', async () => {
	const world = new World();
	world.grantsMax = 8;
	const agent = world.agent();
	await agent.attachHost(world.host());
	const open = async (organization: string, person?: string) => {
		const id = uuidv7(TEST_NOW_MS, systemRng);
		world.said = [];
		agent.open(world.order(id, organization, person ?? id));
		await settled();
		return world.said.slice(1).join() || (world.opened.includes(id) ? 'opened' : 'nothing');
	};
	for (let index = 0; index < 4; index += 1) expect(await open('acme')).toBe('opened');
	expect(await open('acme')).toBe('JOURNAL_FULL');
	expect([await open('bell'), await open(''), await open('acme')]).toEqual(['opened', 'opened', 'JOURNAL_FULL']);

	world.grantsMax = 100;
	const another = world.agent();
	await another.attachHost(world.host());
	const openers: string[] = [];
	for (let index = 0; index < 40; index += 1) {
		const id = uuidv7(TEST_NOW_MS, systemRng);
		another.open(world.order(id, 'acme', index % 39 === 38 ? 'bo' : 'ada'));
		await settled();
		if (world.opened.includes(id)) openers.push(index % 39 === 38 ? 'bo' : 'ada');
	}
	expect(openers.filter((person) => person === 'ada').length).toBeLessThan(35);
	expect(openers).toContain('bo');
});

test('what was carried out before is told as that, also by a journal on a full disk', async () => {
	const world = new World();
	const id = uuidv7(TEST_NOW_MS, systemRng);
	const first = world.agent();
	await first.attachHost(world.host());
	first.open(world.order(id));
	await settled();
	Object.assign(world, { said: [], fault: 'FULL' });
	world.channels.length = 0;
	const second = world.agent();
	await second.attachHost(world.host());
	second.open(world.order(id));
	expect(world.said).toEqual([id, 'ENVELOPE_REPLAYED']);
});
