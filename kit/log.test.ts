import { describe, expect, test } from 'vitest';
import { GpuaasError } from './error.ts';
import { correlationId, createLogger, isCorrelationId, type LogLevel, silentLogger, withCorrelation } from './log.ts';
import { VirtualClock } from './virtual-clock.ts';

function capture(level: LogLevel = 'info') {
	const lines: string[] = [];
	const log = createLogger({
		name: 'test',
		level,
		destination: { write: (line) => void lines.push(line) },
		clock: new VirtualClock(0),
	});
	return { log, lines, records: () => lines.map((line) => JSON.parse(line) as Record<string, unknown>) };
}

test('a line says when, who, what and with which facts', () => {
	const { log, lines, records } = capture();
	log.info('node enrolled', { node: 'n1', attempt: 2 });
	expect(lines[0]?.endsWith('\n')).toBe(true);
	expect(records()).toEqual([
		{
			level: 'info',
			time: '1970-01-01T00:00:00.000Z',
			program: 'test',
			pid: process.pid,
			node: 'n1',
			attempt: 2,
			message: 'node enrolled',
		},
	]);
});

test('levels below the chosen one write nothing', () => {
	const { log, records } = capture('warn');
	log.trace('no');
	log.debug('no');
	log.info('no');
	log.warn('yes');
	log.error('yes');
	log.fatal('yes');
	expect(records().map(({ level }) => level)).toEqual(['warn', 'error', 'fatal']);
	expect([log.isEnabled('info'), log.isEnabled('warn')]).toEqual([false, true]);
});

test('children carry fields, also those of their parents', () => {
	const { log, records } = capture();
	log.child({ node: 'n1' }).child({ task: 't1' }).info('started');
	expect(records()[0]).toMatchObject({ node: 'n1', task: 't1' });
});

describe('correlation', () => {
	test('follows awaits and does not leak to the side', async () => {
		const { log, records } = capture();
		const work = async (id: string) => {
			log.info(`begin ${id}`);
			await Promise.resolve();
			log.info(`end ${id}`);
		};
		await Promise.all([withCorrelation('a', () => work('a')), withCorrelation('b', () => work('b')), work('none')]);
		for (const record of records()) {
			const id = String(record.message).split(' ')[1];
			expect(record.correlation_id).toBe(id === 'none' ? undefined : id);
		}
		expect(correlationId()).toBeUndefined();
		expect(withCorrelation('x', correlationId)).toBe('x');
	});

	test('ids of callers are taken only in a harmless form', () => {
		for (const id of ['0190-abc', 'trace:1.2_3']) expect(isCorrelationId(id)).toBe(true);
		for (const id of ['', 'a b', 'a\nb', '"', 'x'.repeat(65)]) expect(isCorrelationId(id)).toBe(false);
	});
});

describe('redaction', () => {
	const secret = 'gpu_sk_prod_abcdefghijkl_topsecret';
	test('reaches message, fields, children, errors and their causes', () => {
		const { log, lines } = capture();
		const error = new GpuaasError({
			code: 'INTERNAL',
			reason: 'INTERNAL',
			message: `a ${secret}`,
			metadata: { key: secret },
			cause: new Error(`b ${secret}`),
		});
		log
			.child({ credential: secret })
			.error(`message ${secret}`, { error, nested: { deep: [secret] }, [secret]: 1, bytes: Buffer.from(secret) });
		withCorrelation(secret, () => log.info('correlated'));
		expect(lines.join('')).not.toContain('topsecret');
		expect(lines.join('')).not.toContain([...Buffer.from('topsecret')].join());
		expect(JSON.parse(lines[0] ?? '')).toMatchObject({
			error: { reason: 'INTERNAL', code: 'INTERNAL', cause: { type: 'Error' } },
		});
	});

	test('takes a toJSON, a getter that throws nothing and a cycle without running them into the line', () => {
		const { log, lines } = capture();
		const value: Record<string, unknown> = { toJSON: () => ({ leaked: secret }) };
		value.self = value;
		log.info('odd', { value });
		expect(lines.join('')).not.toContain('topsecret');
	});
});

test('a silent logger writes nothing and makes silent children', () => {
	expect(silentLogger.child({ a: 1 })).toBe(silentLogger);
	expect(silentLogger.isEnabled('fatal')).toBe(false);
	for (const level of ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const)
		expect(silentLogger[level]('x')).toBeUndefined();
});
