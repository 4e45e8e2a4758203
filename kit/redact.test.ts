import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isSecretName, redactText, redactValue } from './redact.ts';

const PEM =
	'-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIIrYSSNQFaA2Hwf1duRSxKtLYX5CB04fSeQ6tF1aY/PuoAoGCCqGSM49\n-----END EC PRIVATE KEY-----';
const SECRETS: Readonly<Record<string, string>> = {
	'join token': 'gpu_jt_AbCdEf123456.SGVsbG8gd29ybGQ~x',
	'user key': 'gpu_uk_prod_abcdefghijkl_0123456789012345678901234567890123456789012crc',
	invitation: 'gpu_inv_0123456789012345678901234567890123456789012',
	'service key': 'gpu_sk_dev_abcdefghijkl_0123456789012345678901234567890123456789012crc',
	bearer: 'Authorization: Bearer abcDEF123-._~+/==',
	basic: 'Basic dXNlcjpwYXNzd29yZA==',
	jws: 'eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJub2RlIn0.c2lnbmF0dXJlLWJ5dGVz',
	'private key': PEM,
	'pkcs8 key': PEM.replaceAll('EC PRIVATE', 'PRIVATE'),
	'truncated key': PEM.slice(0, 60),
	url: 'postgres://gpuaas:hunter2@db.internal:5432/gpuaas',
};

for (const [name, secret] of Object.entries(SECRETS)) {
	test(`a ${name} is removed wherever it stands`, () => {
		const payload = secret
			.replace(/^(Authorization: )?(Bearer|Basic) |^postgres:\/\/gpuaas:|@db.*$|-----[A-Z ]+-----/g, '')
			.trim();
		for (const text of [secret, `before ${secret} after`, JSON.stringify({ a: [secret] }), `x=${secret}`]) {
			const redacted = redactText(text);
			expect(redacted).toContain('[redacted]');
			for (const line of payload.split('\n').filter((part) => part.length > 5)) expect(redacted).not.toContain(line);
		}
	});
}

test('harmless text stays as it is', () => {
	for (const text of [
		'gpu_nodes',
		'the bearer of news',
		'-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----',
		'https://host:8443/path@x',
		'eyJ',
		'bearer x',
		'basic test',
	]) {
		expect(redactText(text)).toBe(text);
	}
});

test('what surrounds a secret stays readable', () => {
	expect(redactText('dial postgres://app:pw@db/x failed')).toBe('dial postgres://app:[redacted]@db/x failed');
	expect(redactText(`token gpu_jt_abc.def, expired`)).toBe('token gpu_jt_[redacted], expired');
});

test('a serialised line stays valid JSON', () => {
	const secrets = fc.constantFrom(...Object.values(SECRETS));
	fc.assert(
		fc.property(fc.array(fc.oneof(secrets, fc.string(), fc.constantFrom('"', '\\', '\n', '\\"'))), (parts) => {
			const line = JSON.stringify({ message: parts.join(''), nested: { parts } });
			expect(() => JSON.parse(redactText(line))).not.toThrow();
		}),
		{ numRuns: 500 },
	);
});

test('names of secrets, however they are spelt', () => {
	for (const name of [
		'password',
		'Authorization',
		'Set-Cookie',
		'client_secret',
		'privateKey',
		'join_token',
		'X-API-KEY'.slice(2),
	])
		expect(isSecretName(name), name).toBe(true);
	for (const name of ['page_token', 'token_id', 'key_id', 'node', 'secrets_total'])
		expect(isSecretName(name), name).toBe(false);
	expect(redactValue({ password: 'hunter2', deep: [{ Cookie: 'a=b' }], node: 'n1' })).toEqual({
		password: '[redacted]',
		deep: [{ Cookie: '[redacted]' }],
		node: 'n1',
	});
});

test('bytes show only their length', () => {
	expect(redactValue({ key: new Uint8Array(32), buffer: Buffer.from('secret'), raw: new ArrayBuffer(4) })).toEqual({
		key: '<32 bytes>',
		buffer: '<6 bytes>',
		raw: '<4 bytes>',
	});
});

test('errors keep code, reason, stack and causes, and lose secrets in all of them', () => {
	const cause = Object.assign(new Error(`cannot use ${SECRETS['service key']}`), {
		code: 'EACCES',
		detail: { token: SECRETS.jws },
	});
	const copy = redactValue({
		error: new AggregateError([new TypeError('inner gpu_jt_a.b')], `outer ${PEM}`, { cause }),
	}) as { error: Record<string, unknown> };
	expect(copy.error).toMatchObject({
		type: 'AggregateError',
		message: 'outer [redacted]',
		cause: { type: 'Error', code: 'EACCES' },
		errors: [{ type: 'TypeError', message: 'inner gpu_jt_[redacted]' }],
	});
	expect(copy.error.stack).toContain('redact.test.ts');
	expect(JSON.stringify(copy)).not.toMatch(/abcdefghijkl|c2lnbmF0|MHcCAQ/);
});

test('anything becomes a bounded JSON value', () => {
	const cycle: Record<string, unknown> = {
		bigint: 5n,
		fn: () => {},
		map: new Map([['a', 1]]),
		set: new Set([1]),
		at: new Date(0),
		bad: new Date(Number.NaN),
	};
	cycle.self = cycle;
	const copy = redactValue(cycle) as Record<string, unknown>;
	expect(copy).toMatchObject({
		bigint: '5',
		fn: '<function>',
		map: { a: 1 },
		set: [1],
		at: '1970-01-01T00:00:00.000Z',
		bad: 'Invalid Date',
	});
	expect(() => JSON.stringify(copy)).not.toThrow();
	expect(JSON.stringify(redactValue('x'.repeat(100_000))).length).toBeLessThan(9000);
	expect((redactValue(Array.from({ length: 1000 }, () => 1)) as unknown[]).at(-1)).toBe('<936 more>');
	expect(
		Object.keys(
			redactValue(Object.fromEntries(Array.from({ length: 1000 }, (_, index) => [`k${index}`, 1]))) as object,
		),
	).toHaveLength(65);
	expect(redactValue(JSON.parse('{"__proto__":{"polluted":true},"a":1}'))).toEqual({ a: 1 });
});
