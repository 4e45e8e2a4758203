import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type CastEvent, decodeCastEvent } from '../../../kit/asciicast.ts';
import type { Clock } from '../../../kit/clock.ts';
import { GpuaasError } from '../../../kit/error.ts';
import { VirtualClock } from '../../../kit/virtual-clock.ts';
import { EchoedInput } from './echoed-input.ts';
import type { RecordingFile } from './recording-store.ts';
import { type RecorderOptions, type RecordingSummary, TerminalRecorder } from './terminal-recorder.ts';

/** A file in memory that may be slow or full. */
class MemoryFile implements RecordingFile {
	text = '';
	syncs = 0;
	appends = 0;
	gate: Promise<void> = Promise.resolve();
	failure: Error | undefined;
	get bytes() {
		return Buffer.byteLength(this.text);
	}
	async append(text: string) {
		await this.gate;
		if (this.failure !== undefined) throw this.failure;
		this.text += text;
		this.appends += 1;
	}
	async sync() {
		this.syncs += 1;
	}
	seal = () => Promise.reject(new Error('not asked for here'));
	close = () => Promise.resolve();
}

function record(options: Partial<Pick<RecorderOptions, 'recordsInput' | 'bytesMax' | 'part' | 'outputAt'>> = {}) {
	const clock = new VirtualClock();
	const file = new MemoryFile();
	const failures: GpuaasError[] = [];
	const sealed: RecordingSummary[] = [];
	// A turn of the event loop passes by itself; only time is the test's.
	const turning: Clock = {
		now: () => clock.now(),
		monotonic: () => clock.monotonic(),
		setTimer: (callback, delayMs) => clock.setTimer(callback, delayMs),
		defer: queueMicrotask,
	};
	const recorder = new TerminalRecorder({
		clock: turning,
		file,
		recordsInput: false,
		bytesMax: 1 << 30,
		part: 1,
		outputAt: 0,
		onFailure: (error) => failures.push(error),
		seal: async (summary) => void sealed.push(summary),
		...options,
	});
	const events = () =>
		file.text
			.split('\n')
			.slice(0, -1)
			.map((line) => decodeCastEvent(line) as CastEvent);
	const texts = (code: string) =>
		events()
			.filter((event) => event.code === code)
			.map(({ text }) => text)
			.join('');
	return { clock, file, recorder, failures, sealed, events, texts };
}

describe('a recorder', () => {
	test('keeps what came when, in order, and ends with why', async () => {
		const { clock, recorder, events, sealed } = record();
		recorder.resize(120, 40);
		recorder.output(Buffer.from('one'));
		clock.advance(1500);
		recorder.marker('ada attached');
		recorder.output(Buffer.from('two'));
		await recorder.end('the shell exited');
		expect(events()).toEqual([
			{ atMs: 0, code: 'r', text: '120x40' },
			{ atMs: 0, code: 'o', text: 'one' },
			{ atMs: 1500, code: 'm', text: 'ada attached' },
			{ atMs: 1500, code: 'o', text: 'two' },
			{ atMs: 1500, code: 'm', text: 'the shell exited' },
		]);
		expect(sealed).toEqual([{ events: 5, truncated: '', gaps: 0, gapBytes: 0, outputEnd: 6 }]);
		await recorder.end('again');
		recorder.output(Buffer.from('late'));
		expect([sealed.length, events().length]).toEqual([1, 5]);
	});

	test('any text comes out as it went in, whatever its chunks and its size', async () => {
		await fc.assert(
			fc.asyncProperty(
				fc.string({ unit: 'grapheme', maxLength: 300 }),
				fc.integer({ min: 1, max: 9 }),
				async (text, step) => {
					const { recorder, texts } = record();
					const bytes = Buffer.from(text);
					for (let at = 0; at < bytes.length; at += step) recorder.output(bytes.subarray(at, at + step));
					await recorder.end('');
					expect(texts('o')).toBe(bytes.toString());
				},
			),
		);
		const { recorder, texts, events } = record();
		const large = '😀x'.repeat(100_000);
		recorder.output(Buffer.from(large));
		await recorder.end('');
		expect(texts('o')).toBe(large);
		// Each by itself: a player shows one event at a time.
		expect(events().every(({ text }) => text.isWellFormed())).toBe(true);
	});

	test('says how much waits while the disk is slow, and when less does', async () => {
		const { recorder, file } = record();
		const slow = Promise.withResolvers<void>();
		file.gate = slow.promise;
		const drained = new Promise<void>((resolve) => recorder.onDrain(resolve));
		for (let index = 0; index < 100; index += 1) recorder.output(Buffer.alloc(1000, 'x'));
		expect(recorder.backlogBytes).toBeGreaterThan(100_000);
		slow.resolve();
		await drained;
		await recorder.end('');
		expect(recorder.backlogBytes).toBe(0);
	});

	test('sizes that come after its end take nothing away', async () => {
		const { recorder, file, events } = record();
		const slow = Promise.withResolvers<void>();
		file.gate = slow.promise;
		recorder.output(Buffer.from('one'));
		await Promise.resolve().then(() => {});
		recorder.output(Buffer.from('two'));
		recorder.resize(100, 30);
		const cut = recorder.cut('the control plane stopped');
		for (let columns = 101; columns < 110; columns += 1) recorder.resize(columns, 30);
		slow.resolve();
		await cut;
		expect(events().map(({ text }) => text)).toEqual(['one', 'two', '100x30', 'truncated: the control plane stopped']);
	});

	test('what a flood brings after a write is written together, at once when it is much, and with the end', async () => {
		const { clock, recorder, file } = record();
		const turns = async () => {
			for (let each = 0; each < 10; each += 1) await Promise.resolve();
			return file.appends;
		};
		recorder.output(Buffer.from('key'));
		expect(await turns()).toBe(1);
		for (let each = 0; each < 5; each += 1) recorder.output(Buffer.from('flood'));
		clock.advance(9);
		expect(await turns()).toBe(1);
		clock.advance(1);
		expect(await turns()).toBe(2);
		recorder.output(Buffer.from('flood'));
		expect(await turns()).toBe(2);
		for (let each = 0; each < 5; each += 1) recorder.output(Buffer.alloc(32 * 1024, 'x'));
		expect(await turns()).toBe(3);
		recorder.output(Buffer.from('last'));
		expect(await turns()).toBe(3);
		await recorder.end('exit');
		expect(file.appends).toBe(4);
		expect(file.text).toMatch(/"last"\]\n.*"exit"\]\n$/);
	});

	test('the first failure is told once, ends it, and what follows is not recorded as if there were no gap', async () => {
		const { recorder, file, failures, sealed, texts } = record();
		const written = new Promise<void>((resolve) => recorder.onDrain(resolve));
		recorder.output(Buffer.from('kept'));
		await written;
		file.failure = new GpuaasError({ code: 'RESOURCE_EXHAUSTED', reason: 'DISK_FULL', message: 'the disk is full' });
		recorder.output(Buffer.from('lost'));
		await recorder.end('exit');
		file.failure = undefined;
		recorder.output(Buffer.from('after'));
		expect(recorder.backlogBytes).toBe(0);
		expect(failures.map(({ reason }) => reason)).toEqual(['RECORDING_UNAVAILABLE']);
		expect(sealed).toMatchObject([
			{ events: 1, truncated: expect.stringContaining('the disk is full'), outputEnd: null },
		]);
		expect(texts('o')).toBe('kept');
	});

	test('what never came is marked where it is missing, and the seal says so', async () => {
		const { recorder, events, sealed } = record();
		recorder.output(Buffer.from('one'));
		recorder.gap(3, 1003, Buffer.from('the screen'));
		recorder.gap(2000, 2500, Buffer.from('another'));
		await recorder.end('exit');
		expect(events().map(({ code, text }) => `${code} ${text.slice(0, 26)}`)).toEqual([
			'o one',
			'm gap: output bytes 3 to 100',
			'o the screen',
			'm gap: output bytes 2000 to ',
			'o another',
			'm exit',
		]);
		expect(sealed).toEqual([{ events: 6, truncated: '', gaps: 2, gapBytes: 1500, outputEnd: 2500 }]);
	});

	test('one that its terminal outlives says so, and where its output ends: what comes after that is not in it', async () => {
		const { recorder, events, sealed } = record();
		recorder.output(Buffer.from('one'));
		const cut = recorder.cut('the control plane stopped');
		recorder.output(Buffer.from('two'));
		await cut;
		expect(events().map(({ text }) => text)).toEqual(['one', 'truncated: the control plane stopped']);
		expect(sealed).toMatchObject([{ truncated: 'the control plane stopped', outputEnd: 3 }]);
	});

	test('a part after one that ended in order begins where that ended, with what it missed', async () => {
		const { recorder, events, sealed } = record({ part: 2, outputAt: 100 });
		recorder.beginsAt(100);
		recorder.gap(100, 130, Buffer.from('the screen'));
		recorder.output(Buffer.from('on'));
		await recorder.end('exit');
		expect(recorder.isLater).toBe(true);
		expect(events().map(({ text }) => text)).toEqual([
			'gap: output bytes 100 to 130 never came (nothing was recorded then); the screen after it follows',
			'the screen',
			'on',
			'exit',
		]);
		expect(sealed).toMatchObject([{ gaps: 1, gapBytes: 30, outputEnd: 132 }]);
	});

	test('a part after one that a crash ended says that nobody knows what it missed', async () => {
		const { recorder, events, sealed } = record({ part: 2, outputAt: undefined });
		recorder.beginsAt(130);
		recorder.beginsAt(140);
		recorder.screen(Buffer.from('the screen'));
		recorder.output(Buffer.from('on'));
		await recorder.end('exit');
		expect(events().map(({ code, text }) => `${code} ${text.slice(0, 30)}`)).toEqual([
			'm gap: what came between the par',
			'm the screen as it was then',
			'o the screen',
			'o on',
			'm exit',
		]);
		expect(sealed).toMatchObject([{ gaps: 1, gapBytes: 0, outputEnd: 132 }]);
	});

	test('sizes that come faster than they are written leave only the last', async () => {
		const { recorder, events } = record();
		for (let columns = 1; columns <= 100_000; columns += 1) recorder.resize(columns, 24);
		expect(recorder.backlogBytes).toBeLessThan(100);
		await recorder.end('exit');
		expect(events().map(({ text }) => text)).toEqual(['100000x24', 'exit']);
	});

	test('one that grows past its limit ends as on a full disk', async () => {
		const { recorder, failures, sealed } = record({ bytesMax: 10_000 });
		for (let index = 0; index < 20; index += 1) {
			recorder.output(Buffer.alloc(1000, 'x'));
			await Promise.resolve()
				.then(() => {})
				.then(() => {});
		}
		await recorder.end('');
		expect(failures).toHaveLength(1);
		expect(sealed[0]?.truncated).toMatch(/10000 bytes, the most/);
	});

	test('is on the disk for sure at most two seconds later', async () => {
		const { recorder, clock, file } = record();
		recorder.output(Buffer.from('a'));
		(await recorder.end) === undefined;
		clock.advance(2500);
		recorder.output(Buffer.from('b'));
		await recorder.end('');
		expect(file.syncs).toBeGreaterThan(0);
	});
});

describe('input', () => {
	test('is not recorded without a policy that says so, not even when shown', async () => {
		const { recorder, texts } = record();
		recorder.input(Buffer.from('ls'));
		recorder.output(Buffer.from('ls'));
		await recorder.end('');
		expect(texts('i')).toBe('');
	});

	test('is recorded where the terminal shows it, key by key or pasted', async () => {
		const { recorder, texts } = record({ recordsInput: true });
		for (const key of 'echo') {
			recorder.input(Buffer.from(key));
			recorder.output(Buffer.from(key));
		}
		recorder.input(Buffer.from(' pasted'));
		recorder.output(Buffer.from(' pasted\u001b[K'));
		await recorder.end('');
		expect(texts('i')).toBe('echo pasted');
	});

	test('a password, which is not shown, is never recorded: not alone, not by what comes after it', async () => {
		const { recorder, texts, file } = record({ recordsInput: true });
		recorder.output(Buffer.from('Password: '));
		for (const key of 'hunter2') recorder.input(Buffer.from(key));
		recorder.input(Buffer.from('\r'));
		recorder.output(Buffer.from('\r\nhunter2 is what a log may print later\r\n$ '));
		recorder.input(Buffer.from('ls'));
		recorder.output(Buffer.from('ls'));
		await recorder.end('');
		expect(texts('i')).toBe('ls');
		expect(file.text.match(/hunter2/g)).toHaveLength(1);
	});

	test('other output does not count as an echo, nor one that comes too late', () => {
		const echo = new EchoedInput();
		echo.typed('secret', 0);
		expect(echo.shown('progress 10%', 10)).toBe('');
		expect(echo.shown('secret', 20)).toBe('');
		echo.typed('secret', 100);
		expect(echo.shown('secret', 2200)).toBe('');
		echo.typed('ls', 3000);
		expect(echo.shown('l', 3001) + echo.shown('s', 3002)).toBe('ls');
	});
});
