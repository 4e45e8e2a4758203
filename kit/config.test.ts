import { describe, expect, test } from 'vitest';
import { type ConfigInputs, configJson, loadConfig, printConfig } from './config.ts';
import { bool, bytes, duration, int, list, oneOf, optional, path, string } from './config-fields.ts';
import { GpuaasError } from './error.ts';

const schema = {
	gateway: {
		leaseTtlMs: duration({
			doc: 'How long a session lives without a heartbeat.',
			default: 45_000,
			min: 10_000,
			max: 3_600_000,
		}),
		port: int({ doc: 'Where agents connect.', default: 9443, min: 0, max: 65_535 }),
		frameMaxBytes: bytes({ doc: 'Largest frame.', default: 65_536, min: 1024, max: 1024 ** 3 }),
		drain: bool({ doc: 'Refuse new sessions.', default: false }),
		hosts: list({ doc: 'Names in the certificate.', default: [], pattern: /^[a-z.]+$/, itemsMax: 3 }),
	},
	controlPlane: {
		dataFolder: path({ doc: 'Where everything is kept.' }),
		mode: oneOf(['sqlite', 'postgres'], { doc: 'Which store.', default: 'sqlite' }),
		note: optional(string({ doc: 'Shown in doctor.', lengthMax: 10 })),
		password: optional(string({ doc: 'For the store.', secret: true })),
	},
};
const required = { overrides: { 'control_plane.data_folder': '/var/lib/gpuaas' } };

function load(text: string, more: Partial<ConfigInputs> = {}) {
	return loadConfig(schema, { ...required, ...more, file: { path: 'gpuaas.toml', text } });
}

function problemsOf(action: () => unknown): string {
	try {
		action();
	} catch (error) {
		expect(error).toBeInstanceOf(GpuaasError);
		expect((error as GpuaasError).reason).toBe('CONFIG_INVALID');
		return (error as GpuaasError).message;
	}
	throw new Error('was accepted');
}

describe('sources', () => {
	test('defaults fill what nobody set', () => {
		const { values, sources } = load('');
		expect(values).toEqual({
			gateway: { leaseTtlMs: 45_000, port: 9443, frameMaxBytes: 65_536, drain: false, hosts: [] },
			controlPlane: { dataFolder: '/var/lib/gpuaas', mode: 'sqlite', note: undefined, password: undefined },
		});
		expect(sources['gateway.port']).toBe('default');
		expect(sources['control_plane.note']).toBe('unset');
	});

	test('flags beat the environment, which beats the file, which beats defaults', () => {
		const text = '[gateway]\nport = 1\nlease_ttl = "1m"\nframe_max = "1MiB"\n';
		const env = {
			GPUAAS_GATEWAY_PORT: '2',
			GPUAAS_GATEWAY_LEASE_TTL: '2m',
			PATH: '/bin',
			GPUAAS_GATEWAY_HOSTS: undefined,
		};
		const { values, sources } = load(text, {
			env,
			overrides: { ...required.overrides, 'gateway.port': '3', 'gateway.drain': undefined },
		});
		expect(values.gateway).toMatchObject({ port: 3, leaseTtlMs: 120_000, frameMaxBytes: 1_048_576 });
		expect(sources).toMatchObject({
			'gateway.port': 'flag',
			'gateway.lease_ttl': 'env GPUAAS_GATEWAY_LEASE_TTL',
			'gateway.frame_max': 'file gpuaas.toml:4:1',
		});
	});

	test('the environment can say every type', () => {
		const env = {
			GPUAAS_GATEWAY_PORT: '0',
			GPUAAS_GATEWAY_DRAIN: 'true',
			GPUAAS_GATEWAY_HOSTS: ' a.b , c ,',
			GPUAAS_GATEWAY_FRAME_MAX: '2KiB',
			GPUAAS_CONTROL_PLANE_MODE: 'postgres',
		};
		const { values } = load('', { env });
		expect(values.gateway).toMatchObject({ port: 0, drain: true, hosts: ['a.b', 'c'], frameMaxBytes: 2048 });
		expect(values.controlPlane.mode).toBe('postgres');
	});

	test('the result cannot be changed', () => {
		const { values } = load('');
		expect(() => {
			(values.gateway as { port: number }).port = 1;
		}).toThrow(TypeError);
	});
});

describe('refusals', () => {
	test('every problem at once, each with its place and what to write', () => {
		const text =
			'# x\n[gatewai]\na = 1\n\n[gateway]\n  prt = 5\nport = 70000\nlease_ttl = 45\nhosts = ["UPPER"]\n[control_plane]\nmode = "mysql"\nnote = "longer than ten"\n';
		const message = problemsOf(() =>
			load(text, { env: { GPUAAS_GATEWAY_PROT: '1' }, overrides: { 'gateway.nope': 1 } }),
		);
		for (const expected of [
			'gpuaas.toml:2:2: no such section [gatewai], did you mean gateway?',
			'gpuaas.toml:6:3: no such key gateway.prt, did you mean port?',
			'gpuaas.toml:7:1: gateway.port is 70000; it must be a whole number from 0 to 65535',
			'gpuaas.toml:8:1: gateway.lease_ttl is the number 45 without a unit; it must be a duration from "10s" to "1h"',
			'gpuaas.toml:9:1: gateway.hosts holds "UPPER"',
			'gpuaas.toml:11:1: control_plane.mode is "mysql"; it must be one of sqlite, postgres',
			'gpuaas.toml:12:1: control_plane.note is longer than 10 characters',
			'env GPUAAS_GATEWAY_PROT: no such setting, did you mean GPUAAS_GATEWAY_PORT?',
			'flag gateway.nope: no such setting',
			'control_plane.data_folder is required: set it under [control_plane] or as GPUAAS_CONTROL_PLANE_DATA_FOLDER',
		]) {
			expect(message).toContain(expected);
		}
	});

	test.each([
		['[gateway]\nlease_ttl = "9s"', 'is 9s;'],
		['[gateway]\nlease_ttl = "1.5h"', '"1.5h"'],
		['[gateway]\nframe_max = "1MB"', '"1MB"'],
		['[gateway]\nport = 1.5', '1.5'],
		['[gateway]\ndrain = "yes"', 'a string'],
		['[gateway]\nhosts = ["a", "b", "c", "d"]', '4 items'],
		['[gateway]\nhosts = [1]', 'the number 1'],
		['gateway = 1', 'must be a section'],
		['[control_plane]\nnote = "a\\u0000"', 'NUL'],
		['[control_plane]\ndata_folder = ""', 'another form'],
	])('%s', (text, expected) => {
		expect(
			problemsOf(() => load(text, { overrides: text.includes('data_folder') ? {} : required.overrides })),
		).toContain(expected);
	});

	test('text that is not TOML, with its place', () => {
		expect(problemsOf(() => load('[gateway\nport = 1'))).toMatch(/gpuaas\.toml:1:\d+: not TOML/);
		expect(problemsOf(() => load('__proto__ = 1'))).toContain('not TOML');
	});

	test('a secret in the environment, and never its value', () => {
		const message = problemsOf(() => load('', { env: { GPUAAS_CONTROL_PLANE_PASSWORD: 'hunter2' } }));
		expect(message).toContain('a secret may not stand in the environment');
		expect(message).not.toContain('hunter2');
		expect(problemsOf(() => load('[control_plane]\npassword = 123456'))).not.toContain('123456');
	});

	test("variables of others are left alone when they are named, and refused when they aren't", () => {
		const env = { GPUAAS_CONTEXT: 'prod', GPUAAS_TEST_A: '1' };
		expect(load('', { env, foreignEnv: ['GPUAAS_CONTEXT', 'GPUAAS_TEST_*'] }).values.gateway.port).toBe(9443);
		expect(problemsOf(() => load('', { env }))).toContain('GPUAAS_CONTEXT');
	});

	test('a schema whose names lack their unit or collide', () => {
		expect(() => loadConfig({ a: { ttl: duration({ doc: '', default: 1000, min: 0, max: 5000 }) } }, {})).toThrow(
			'must end in its unit',
		);
		expect(() =>
			loadConfig({ a: { bC: bool({ doc: '', default: true }) }, aB: { c: bool({ doc: '', default: true }) } }, {}),
		).toThrow('also called GPUAAS_A_B_C');
	});
});

describe('printConfig', () => {
	test('shows values, meaning and source, and masks secrets', () => {
		const printed = printConfig(schema, load('[control_plane]\npassword = "hunter2"\n'));
		expect(printed).toContain('# How long a session lives without a heartbeat.\n');
		expect(printed).toContain('GPUAAS_GATEWAY_LEASE_TTL; from default\nlease_ttl = "45s"\n');
		expect(printed).toContain('from file gpuaas.toml:2:1\npassword = "[redacted]"\n');
		expect(printed).not.toContain('hunter2');
		expect(printed).toContain('# note = ""');
	});

	test('is a file that gives the same configuration', () => {
		const loaded = load('[gateway]\nhosts = ["a", "b"]\nlease_ttl = "90s"\nframe_max = "1500B"\ndrain = true\n');
		const again = loadConfig(schema, { file: { path: 'printed.toml', text: printConfig(schema, loaded) } });
		expect(again.values).toEqual(loaded.values);
	});

	test('gives programs each value with its source, and no secret', () => {
		const settings = configJson(schema, load('[control_plane]\npassword = "hunter2"\n[gateway]\nhosts = ["a", "b"]\n'));
		const of = (wanted: string) => settings.find(({ name }) => name === wanted);
		expect(of('gateway.lease_ttl')).toEqual({
			name: 'gateway.lease_ttl',
			value: '45s',
			source: 'default',
			env: 'GPUAAS_GATEWAY_LEASE_TTL',
		});
		expect(of('gateway.hosts')).toMatchObject({ value: ['a', 'b'], source: 'file gpuaas.toml:4:1' });
		expect(of('control_plane.note')).toMatchObject({ value: null });
		expect(of('control_plane.password')).toMatchObject({ value: '[redacted]' });
		expect(JSON.stringify(settings)).not.toContain('hunter2');
	});
});
