import { describe, expect, test } from 'vitest';
import { rewriteSpecifiers } from './specifiers.ts';

describe('specifiers', () => {
	test('every way to name a module is rewritten, and nothing else', () => {
		const source = [
			"import { a } from './a.ts';",
			"import type { B } from '../b.ts';",
			"export { c } from './c.ts';",
			"const d = await import('./d.ts');",
			"const e = new URL('../agent/main.ts', import.meta.url);",
			"const f = 'see ./x.ts for more';",
			"const own = import.meta.url.endsWith('.ts');",
			"import pino from 'pino';",
		].join('\n');
		const { text, modules, problems } = rewriteSpecifiers('x.ts', source);
		expect(text.match(/\.js'/g)).toHaveLength(5);
		expect(text).toContain("'see ./x.ts for more'");
		expect(text).toContain("endsWith('.ts')");
		expect(modules).toEqual(['./a.js', './c.js', './d.js']);
		expect(problems).toEqual([]);
		expect(text).toHaveLength(source.length);
	});

	test('a path that cannot be followed stops the packaging', () => {
		expect(rewriteSpecifiers('x.ts', "join(folder, 'main.ts')").problems).toHaveLength(1);
	});
});
