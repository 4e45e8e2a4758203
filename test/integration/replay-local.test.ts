import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { Screen } from '../../agent/pty-host/screen.ts';
import { Turns } from '../../agent/pty-host/turns.ts';
import { encodeCastEvent, encodeCastHeader } from '../../kit/asciicast.ts';
import { systemClock } from '../../kit/clock.ts';
import { GPUAAS, Person } from './terminals-world.ts';

/** The terminal in which a recording plays: what it was told by the recording, and what it sends itself. */
const folder = mkdtempSync(join(tmpdir(), 'gpuaas-replay-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function replay(...shown: readonly (readonly [atMs: number, text: string])[]): Person {
	const file = join(folder, `${shown.length}.cast`);
	const header = encodeCastHeader({ width: 80, height: 24, timestamp: 0, title: '', env: {} });
	const events = shown.map(([atMs, text]) => encodeCastEvent({ atMs, code: 'o', text }));
	writeFileSync(file, header + events.join(''));
	const { PATH = '' } = process.env;
	const argv = ['terminal', 'replay', file, '--idle-limit', '1h'];
	return new Person(GPUAAS, argv, { PATH, HOME: folder, GPUAAS_CONFIG_DIR: folder });
}

/** What a terminal that has got these bytes is in, as escape sequences. */
async function stateAfter(bytes: Buffer): Promise<string> {
	const screen = new Screen({ columns: 80, rows: 24 }, new Turns(systemClock), () => {});
	screen.feed(bytes);
	return (await screen.snapshot()).bytes.toString('latin1');
}

// Paste, mouse, focus, application keys, scrolling region, insertion, no cursor, drawn lines.
const MODES =
	'\u001b[?2004h\u001b[?1003h\u001b[?1006h\u001b[?1004h\u001b[?1h\u001b=\u001b[5;10r\u001b[4h\u001b[?25l\u001b(0\u001b[31m';
const ARE_SET = ['[?2004h', '[?1003h', '[?1006h', '[?1004h', '[?1h', '[5;10r', '[4h', '[?25l', '(0'];

test('no mode that a recording turned on stays', async () => {
	using person = replay([0, `${MODES}\u001b[>1u\u001b[>4;2mlast`]);
	expect(await person.exited).toEqual({ exitCode: 0 });
	const before = await stateAfter(Buffer.from(MODES));
	const after = await stateAfter(Buffer.from(person.raw, 'latin1'));
	for (const mode of ARE_SET) {
		expect(before, mode).toContain(`\u001b${mode}`);
		expect(after, mode).not.toContain(`\u001b${mode}`);
	}
	// Of these no terminal of ours tells.
	const end = person.raw.slice(person.raw.lastIndexOf('last'));
	for (const taken of ['[<u', '[>4m', '[?1005l', '[?1015l']) expect(end).toContain(`\u001b${taken}`);
});

test('what the terminal answers is taken for no key', async () => {
	using person = replay([0, 'begins'], [3_600_000, 'ends']);
	await person.sees('begins');
	// Its name, with a q; then a person pauses, and steps.
	person.type('\u001bP>|q term\u001b\\ .');
	expect(await person.exited).toEqual({ exitCode: 0 });
	expect(await person.screen()).toContain('beginsends');
});
