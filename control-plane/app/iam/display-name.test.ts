import { expect, test } from 'vitest';
import { checkedDisplayName } from './display-name.ts';

test('names of one script are taken as they are written', () => {
	for (const name of [
		'Research',
		'Forschung & Entwicklung',
		'Лаборатория',
		'Έρευνα',
		'研究所',
		'AI研究',
		'연구 Lab',
		'R2-D2 (old)',
	])
		expect(checkedDisplayName(`  ${name} `).displayName).toBe(name.normalize('NFC'));
});

test('what can’t be seen or mixes look-alike scripts is refused', () => {
	const bad = ['', '   ', 'a\u200Bcme', 'acme\u202Eemca', 'acme\u0000', 'аcme', 'acmе', 'Αcme', '\u3164', 'x\u2060y'];
	for (const name of bad) expect(() => checkedDisplayName(name), JSON.stringify(name)).toThrow('taken for another');
});

test('look-alikes have one skeleton, different names have not', () => {
	const same = [
		['scope', 'ѕсоре'],
		['Acme', 'ACME'],
		['paypal', 'paypa1'],
		['Oslo', '0slo'],
		['a  b', 'a b'],
		['ｆｕｌｌ', 'full'],
	] as const;
	for (const [a, b] of same) expect(checkedDisplayName(a).skeleton, `${a} ${b}`).toBe(checkedDisplayName(b).skeleton);
	expect(checkedDisplayName('train').skeleton).not.toBe(checkedDisplayName('brain').skeleton);
});
