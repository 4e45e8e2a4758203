import { expect, test } from 'vitest';
import { byNodeName } from './node-order.ts';

test('nodes are in the order in which people count, and always in the same one', () => {
	const names = ['gpu-10', 'gpu-2', 'rack', 'gpu-02', 'gpu-1'];
	const sorted = ['gpu-1', 'gpu-02', 'gpu-2', 'gpu-10', 'rack'];
	for (const given of [names, names.toReversed()])
		expect(given.map((name) => ({ name })).sort(byNodeName)).toEqual(sorted.map((name) => ({ name })));
});
