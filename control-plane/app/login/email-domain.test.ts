import { expect, test } from 'vitest';
import { emailDomain } from './email-domain.ts';

test('the domain is what stands behind the one @', () => {
	expect(emailDomain('ada@acme.example')).toBe('acme.example');
	expect(emailDomain('ada+gpu@eu.acme.example')).toBe('eu.acme.example');
});

test.each([
	'"x@acme.example"@evil.example',
	'x@acme.example@evil.example',
	'"x"@acme.example',
	'@acme.example',
	'ada',
	'',
])('%s belongs to no domain', (email) => {
	expect(emailDomain(email)).toBe('');
});
