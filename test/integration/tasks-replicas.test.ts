import { afterAll, beforeAll, expect, it } from 'vitest';
import { GrpcTransport } from '../../agent/control/grpc-transport.ts';
import type { StoredIdentity } from '../../agent/identity/stored-identity.ts';
import { SessionRegistry } from '../../control-plane/app/sessions/registry.ts';
import { DispatchReconciler } from '../../control-plane/reconcilers/dispatch.ts';
import { systemClock } from '../../kit/clock.ts';
import { eventually } from '../eventually.ts';
import type { World } from './link-world.ts';
import { RawLink } from './raw-link.ts';
import { OPEN, run, startTasksWorld, type TasksWorld } from './tasks-world.ts';

/**
 * Two replicas on one store, each with its own sessions and its own dispatch, and an agent that goes from one to the
 * other. What is lost with a journal must follow from the store alone: no replica saw all of it.
 */
let tasks: TasksWorld;
let second: Replica;
let third: Replica;
const links: RawLink[] = [];
const transport = new GrpcTransport(systemClock);

interface Replica extends AsyncDisposable {
	readonly address: string;
	readonly dispatch: DispatchReconciler;
}

async function startReplica(world: World): Promise<Replica> {
	const sessions = new SessionRegistry();
	const app = { ...world.app, sessions };
	const dispatch = new DispatchReconciler(app);
	const onSessionOpen = (opened: { readonly nodeId: string }) => dispatch.onSessionOpen(opened);
	const gateway = await world.startGateway({ app, registry: sessions, onSessionOpen });
	return {
		address: `127.0.0.1:${gateway.port}`,
		dispatch,
		[Symbol.asyncDispose]: () => dispatch[Symbol.asyncDispose](),
	};
}

beforeAll(async () => {
	tasks = await startTasksWorld();
	second = await startReplica(tasks.world);
	third = await startReplica(tasks.world);
});

afterAll(async () => {
	for (const link of links) link.close();
	await third[Symbol.asyncDispose]();
	await second[Symbol.asyncDispose]();
	await tasks[Symbol.asyncDispose]();
});

function connect(identity: StoredIdentity, address: string): RawLink {
	const link = new RawLink(transport, identity, address);
	links.push(link);
	return link;
}

/** A node on the second replica whose agent process `one` has accepted a task there. */
async function acceptedThere() {
	const { identity } = await tasks.newNode();
	const link = connect(identity, second.address);
	await link.hello({ instanceId: 'one' }).welcomed();
	const id = await tasks.submit(identity.nodeId, run('/bin/true'));
	await eventually('it was offered', () => link.commands().length > 0);
	const fencingToken = BigInt((await tasks.task(id)).fencingToken);
	const accepted = { case: 'taskAccepted', value: { taskId: id, attempt: 1, fencingToken } } as const;
	link.send({ case: 'fact', value: { seq: 1n, fact: accepted } });
	await eventually('its acceptance is committed', () => link.factAck() === 1n);
	expect((await tasks.task(id)).acceptedAtMs).not.toBeNull();
	return { identity, id };
}

async function settled(identity: StoredIdentity, replica: Replica, hello: Parameters<RawLink['hello']>[0]) {
	await connect(identity, replica.address).hello(hello).welcomed();
	await replica.dispatch.idle();
}

it('keeps a task that the agent took over the link before, when its Hello to another replica came late', async () => {
	const { identity, id } = await acceptedThere();
	// Written before the offer came: it names no attempt and no fact.
	await settled(identity, third, { instanceId: 'one', factSeq: 0n });
	expect(await tasks.task(id)).toMatchObject({ state: 'leased', reason: '' });
	await settled(identity, second, { instanceId: 'one', factSeq: 1n, attempts: [{ taskId: id, attempt: 1 }] });
	expect(OPEN).toContain((await tasks.task(id)).state);
});

it('loses with a journal what another replica offered, also when the first to hear of it goes away', async () => {
	const { identity, id } = await acceptedThere();
	const away = await tasks.world.startGateway({ onSessionOpen: () => {} });
	await connect(identity, `127.0.0.1:${away.port}`).hello({ instanceId: 'two' }).welcomed();
	await settled(identity, third, { instanceId: 'two' });
	expect(await tasks.task(id)).toMatchObject({ state: 'lost', reason: 'JOURNAL_LOST' });
});

it('loses what the same process no longer knows, as after the restore of a backup', async () => {
	const { identity, id } = await acceptedThere();
	await settled(identity, third, { instanceId: 'one', factSeq: 5n });
	expect(await tasks.task(id)).toMatchObject({ state: 'lost', reason: 'JOURNAL_LOST' });
});

it('sends again what was on its way, to a process that goes on and to one that does not', async () => {
	const { identity } = await tasks.newNode();
	await settled(identity, second, { instanceId: 'one' });
	const id = await tasks.submit(identity.nodeId, run('/bin/true'));
	await eventually('it was offered', async () => (await tasks.task(id)).state === 'leased');
	const cancelling = { state: 'cancelling', cancelRequestedAtMs: systemClock.now(), cancelGraceMs: 1000 } as const;
	await tasks.world.store.unit((tx) => tx.tasks.update(id, cancelling, ['leased']));
	for (const instanceId of ['one', 'two']) {
		const link = connect(identity, third.address);
		await link.hello({ instanceId }).welcomed();
		// The cancel alone could not be answered with certainty.
		const sent = () =>
			link.frames.flatMap(({ message }) => (message.case === 'command' ? [message.value.command.case] : []));
		await eventually('offer and cancel went out', () => sent().includes('taskOffer') && sent().includes('taskCancel'));
		expect(await tasks.task(id)).toMatchObject({ state: 'cancelling', reason: '' });
	}
});
