import { describe, expect, test } from 'vitest';
import { GpuaasError } from '../../../kit/error.ts';
import { settled } from './relay-fixture.ts';
import { Viewer, type ViewerMessage } from './viewer.ts';

/** A viewer whose messages are pushed; `busy`: whoever takes them asks for time. */
function delivering() {
	const viewer = new Viewer({
		principalId: 'p',
		name: 'Ada',
		mode: 'control',
		hasScreen: true,
		isPulled: false,
		acknowledges: true,
		now: () => 0,
		onProgress: () => {},
	});
	viewer.follow(0);
	const got: ViewerMessage[] = [];
	const leave = new AbortController();
	const state: { busy: PromiseWithResolvers<void> | undefined; end: unknown } = { busy: undefined, end: undefined };
	const send = (message: ViewerMessage) => {
		got.push(message);
		return state.busy?.promise;
	};
	viewer.deliver(send, leave.signal).then(
		() => {
			state.end = 'over';
		},
		(error: unknown) => {
			state.end = error;
		},
	);
	const texts = () =>
		got.map((message) => (message.case === 'output' ? Buffer.from(message.value.data ?? []).toString() : message.case));
	const say = (offset: number, text: string) => viewer.output('stdout', offset, Buffer.from(text), false);
	return { viewer, state, leave, texts, say };
}

describe('messages that are pushed', () => {
	test('come in their order; small ones of one turn together, and those that come meanwhile wait', async () => {
		const { viewer, state, texts, say } = delivering();
		say(0, 'a');
		say(1, 'b');
		await settled(() => texts().join() === 'ab');
		state.busy = Promise.withResolvers();
		say(2, 'c');
		await settled(() => texts().join() === 'ab,c');
		say(3, 'd');
		viewer.tell({ case: 'notice', value: { message: 'once' } });
		viewer.tell({ case: 'notice', value: { message: 'twice' } });
		await settled(() => texts().join() === 'ab,c');
		const { busy } = state;
		state.busy = undefined;
		busy?.resolve();
		await settled(() => texts().join() === 'ab,c,d,notice');
		viewer.tell({ case: 'end', value: {} });
		viewer.close();
		await settled(() => state.end === 'over' && texts().at(-1) === 'end');
	});

	test('end at once with a failure, also while whoever takes them asks for time', async () => {
		const { viewer, state, texts, say } = delivering();
		state.busy = Promise.withResolvers();
		say(0, 'a');
		await settled(() => texts().join() === 'a');
		say(1, 'b');
		const refused = new GpuaasError({ code: 'PERMISSION_DENIED', reason: 'PERMISSION_DENIED', message: 'no' });
		viewer.close(refused);
		state.busy.resolve();
		await settled(() => state.end === refused);
		expect(texts()).toEqual(['a']);
	});

	test('end with their signal, and with whoever takes them', async () => {
		const left = delivering();
		await settled(() => left.texts().length === 0);
		left.leave.abort(new Error('gone'));
		await settled(() => (left.state.end as Error)?.message === 'gone');
		left.say(0, 'late');
		await settled(() => left.texts().length === 0);
		const broken = delivering();
		broken.state.busy = Promise.withResolvers();
		broken.say(0, 'a');
		await settled(() => broken.texts().length === 1);
		broken.state.busy.reject(new Error('the stream is closed'));
		await settled(() => (broken.state.end as Error)?.message === 'the stream is closed');
	});
});
