import fc from 'fast-check';
import { expect, test } from 'vitest';
import { returnPath } from './return-path.ts';

test('paths of ours', () => {
	for (const path of ['/', '/nodes', '/nodes/a?tab=gpu&x=1#top']) expect(returnPath(path)).toBe(path);
	expect(returnPath(null)).toBe('/');
});

test.each([
	'https://evil.example',
	'//evil.example',
	'/\\evil.example',
	'/\t/evil.example',
	'/\n/evil.example',
	'\\/evil.example',
	'javascript:alert(1)',
	'nodes',
	' /nodes',
	'/%2f/evil.example',
	'/%5cevil.example',
	`/${'x'.repeat(1024)}`,
])('an open redirect is refused: %j', (sent) => {
	expect(() => returnPath(sent)).toThrow('not a path of this site');
});

test('whatever is let through stays on this site, as a browser reads it', () => {
	fc.assert(
		fc.property(
			fc.oneof(
				fc.string(),
				fc.webUrl(),
				fc.string().map((text) => `/${text}`),
			),
			(sent) => {
				let path = '/';
				try {
					path = returnPath(sent);
				} catch {
					return;
				}
				expect(new URL(path, 'https://gpuaas.example/auth/callback').origin).toBe('https://gpuaas.example');
			},
		),
		{ numRuns: 2000 },
	);
});
