import { expect, test } from 'vitest';
import { AlternateScreen } from './alternate-screen.ts';

test.each([
	['nothing of it', ['plain', '\u001b[2J\u001b[?25h'], ''],
	['a program that left by itself', ['\u001b[?1049hvim', '\u001b[?1049l$ '], ''],
	['a program that was cut off', ['$ \u001b[?1049h', 'vim'], '\u001b[?1049l'],
	['a switch in two pieces', ['$ \u001b[?10', '49hvim'], '\u001b[?1049l'],
	['one among other modes', ['\u001b[?1;1049;25h'], '\u001b[?1049l'],
	['an old one', ['\u001b[?47h'], '\u001b[?1049l'],
])('%s', (_, shown, leave) => {
	const screen = new AlternateScreen();
	for (const text of shown) screen.saw(text);
	expect(screen.leave).toBe(leave);
});
