import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parsePlace } from '../copy/place.ts';
import { parseForward } from './target.ts';

test('a forward is a port, two ports, or ports around a host', () => {
	expect(parseForward('8888')).toEqual({ localPort: 8888, host: '', port: 8888 });
	expect(parseForward('0:80')).toEqual({ localPort: 0, host: '', port: 80 });
	expect(parseForward('1:host.example:2')).toEqual({ localPort: 1, host: 'host.example', port: 2 });
	expect(parseForward('1:[fd00::1]:2')).toEqual({ localPort: 1, host: 'fd00::1', port: 2 });
	for (const bad of ['', '0', '65536', '1:0', '1:2:3:4', '1:fd00::1:2', 'x', '1:', ':1', '1:h:', '1:h:99999', '-1'])
		expect(parseForward(bad), bad).toBeUndefined();
	fc.assert(fc.property(fc.string(), (text) => ['undefined', 'object'].includes(typeof parseForward(text))));
});

test('what has a colon after a name is on a node, unless it begins as a path', () => {
	expect(parsePlace('gpu-07:/var/x:y')).toEqual({ kind: 'node', node: 'gpu-07', path: '/var/x:y' });
	expect(parsePlace('gpu-07:')).toEqual({ kind: 'node', node: 'gpu-07', path: '' });
	for (const path of ['./gpu-07:x', '/a:b', 'plain', '.', ':x', ''])
		expect(parsePlace(path)).toEqual({ kind: 'local', path });
});
