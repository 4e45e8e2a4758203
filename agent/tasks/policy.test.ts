import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { describe, expect, it } from 'vitest';
import {
	CollectBundleSpecSchema,
	InjectFaultSpecSchema,
	RebootSpecSchema,
	RunSpecSchema,
	type TaskSpec,
	TaskSpecSchema,
} from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import {
	HealthFactKind,
	HealthSubjectKind,
	HealthSubjectSchema,
	InjectedFaultSchema,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { decide, globMatches, type Programs } from './permit.ts';
import { DENY_ALL, demoPolicy, type Policy, parsePolicy } from './policy.ts';

const parse = (text: string) => parsePolicy(text, 'agent.policy.toml');
const spec = (kind?: TaskSpec['kind']) => create(TaskSpecSchema, kind === undefined ? {} : { kind });
const run = (value: MessageInitShape<typeof RunSpecSchema>) =>
	spec({ case: 'run', value: create(RunSpecSchema, value) });
const bundle = (parts: string[]) => spec({ case: 'collectBundle', value: create(CollectBundleSpecSchema, { parts }) });
const reboot = spec({ case: 'reboot', value: create(RebootSpecSchema, { reason: 'x' }) });
const judge = (
	policy: Policy,
	task: ReturnType<typeof spec>,
	change: { timeoutMs?: number; outputBytesMax?: number } = {},
) => decide(policy, { spec: task, timeoutMs: 1000, outputBytesMax: 0, ...change }, PROGRAMS);

const LINKS: Readonly<Record<string, string | undefined>> = {
	'/opt/a/bin/escape': '/usr/bin/false',
	'/opt/a/bin/alias': '/opt/a/bin/b/c',
	'/opt/a/bin/gone': undefined,
	'/home/bob/own': '/usr/bin/true',
};
const PROGRAMS: Programs = {
	isExecutable: (path) => path === '/usr/bin/true',
	realPath: (path) => (path in LINKS ? LINKS[path] : path),
};
const withEnv = (...env: string[]) =>
	parse(
		`[tasks]\nkinds = ["run"]\n[run]\nusers = ["bob"]\ndefault_user = "bob"\nbinaries = ["/**"]\nenv = ${JSON.stringify(env)}`,
	);
const envTask = (env: Record<string, string>) => run({ argv: ['true'], env });

const POLICY = parse(`
[tasks]
kinds = ["run", "collect_bundle", "reboot"]
[run]
users = ["alice", "bob"]
default_user = "bob"
binaries = ["/usr/bin/true", "/opt/*/bin/**"]
[limits]
timeout = "1m"
output = "1MiB"
memory = "1GiB"
processes = 64
[bundle]
parts = ["kernel", "disks"]
user = "bob"
`);

describe('policy', () => {
	it('denies everything that is not named', () => {
		expect(judge(DENY_ALL, run({ argv: ['/usr/bin/true'] }))).toMatchObject({ kind: 'refuse', reason: 'POLICY_KIND' });
		expect(judge(parse('[tasks]\nkinds = ["run"]'), run({ argv: ['/usr/bin/true'] }))).toMatchObject({
			reason: 'POLICY_USER',
		});
		const users = parse('[tasks]\nkinds = ["run"]\n[run]\nusers = ["bob"]\ndefault_user = "bob"');
		expect(judge(users, run({ argv: ['/usr/bin/true'] }))).toMatchObject({ reason: 'POLICY_BINARY' });
		expect(judge(POLICY, spec())).toMatchObject({ reason: 'POLICY_KIND' });
	});

	it('permits what it names, with defaults and ceilings filled in', () => {
		expect(judge(POLICY, run({ argv: ['true', 'x'] }))).toEqual({
			kind: 'permit',
			timeoutMs: 1000,
			outputBytesMax: 1024 ** 2,
			permit: {
				kind: 'run',
				argv: ['/usr/bin/true', 'x'],
				user: 'bob',
				cwd: '',
				env: { PATH: POLICY.run.path },
				limits: { memoryBytes: 1024 ** 3, processes: 64 },
			},
		});
		const asked = run({ argv: ['/opt/a/bin/b/c'], user: 'alice', limits: { memoryBytes: 5n, cpuMilli: 500 } });
		expect(judge(POLICY, asked)).toMatchObject({
			permit: { user: 'alice', limits: { memoryBytes: 5, processes: 64, cpuMilli: 500 } },
		});
	});

	it.each([
		['another user', run({ argv: ['true'], user: 'root' }), 'POLICY_USER'],
		['a program that is not in the path', run({ argv: ['missing'] }), 'COMMAND_NOT_FOUND'],
		['another program', run({ argv: ['/usr/bin/false'] }), 'POLICY_BINARY'],
		['a way around by ..', run({ argv: ['/opt/a/bin/../../../usr/bin/false'] }), 'POLICY_BINARY'],
		['a relative program outside', run({ argv: ['./x'], cwd: '/tmp' }), 'POLICY_BINARY'],
		['a link out of a permitted folder', run({ argv: ['/opt/a/bin/escape'] }), 'POLICY_BINARY'],
		['a link of one’s own to a permitted program', run({ argv: ['/home/bob/own'] }), 'POLICY_BINARY'],
		['a link that leads nowhere', run({ argv: ['/opt/a/bin/gone'] }), 'COMMAND_NOT_FOUND'],
		['a variable that it does not name', run({ argv: ['true'], env: { A: '1' } }), 'POLICY_ENV'],
		['more memory', run({ argv: ['true'], limits: { memoryBytes: 2n ** 31n } }), 'POLICY_LIMIT'],
		['a reboot', reboot, 'POLICY_KIND'],
		['a part of a bundle', bundle(['network']), 'POLICY_KIND'],
	])('refuses %s', (_, task, reason) => {
		expect(judge(POLICY, task)).toMatchObject({ kind: 'refuse', reason });
	});

	it('says that something is wrong only where that kind is listed', () => {
		const subject = create(HealthSubjectSchema, { kind: HealthSubjectKind.NODE });
		const faults = [create(InjectedFaultSchema, { kind: HealthFactKind.PROBE_HUNG, subject })];
		const value = create(InjectFaultSpecSchema, { faults, endsAt: timestampFromMs(9000) });
		const inject = spec({ case: 'injectFault', value });
		expect(judge(POLICY, inject)).toMatchObject({ kind: 'refuse', reason: 'POLICY_KIND' });
		expect(judge(parse('[tasks]\nkinds = ["inject_fault"]'), inject)).toMatchObject({
			permit: { kind: 'inject_fault', faults, endsAtMs: 9000 },
		});
		expect(demoPolicy('nobody')).not.toContain('inject_fault');
	});

	it('permits a link whose target is permitted too, under the name that was asked for', () => {
		expect(judge(POLICY, run({ argv: ['/opt/a/bin/alias'] }))).toMatchObject({
			permit: { argv: ['/opt/a/bin/alias'] },
		});
	});

	it('lets tasks set the variables that it names', () => {
		const policy = withEnv('A', 'LC_*', '*_X_*', 'PATH_*_END');
		const env = { A: '1', LC_ALL: 'C', LC_: '', B_X_C: '2', PATH_END_END: '3' };
		expect(judge(policy, envTask(env))).toMatchObject({ permit: { env: { PATH: policy.run.path, ...env } } });
		for (const name of ['AA', 'a', 'XLC_ALL', 'B_X', 'PATH_END'])
			expect(judge(policy, envTask({ [name]: '' })), name).toMatchObject({ reason: 'POLICY_ENV' });
	});

	it('says which variable, that the host decides, and never its value', () => {
		const judged = judge(POLICY, envTask({ API_TOKEN: 'hush' }));
		expect(judged).toMatchObject({ message: expect.stringMatching(/API_TOKEN.*policy of the host.*run\.env/) });
		expect(JSON.stringify(judged)).not.toContain('hush');
	});

	it.each([
		...['LD_PRELOAD', 'LD_LIBRARY_PATH', 'BASH_ENV', 'ENV', 'PERL5OPT', 'PERL5LIB', 'PYTHONSTARTUP', 'PYTHONPATH'],
		...['NODE_OPTIONS', 'RUBYOPT', 'GIT_SSH_COMMAND', 'HOME', 'IFS', 'JAVA_TOOL_OPTIONS', 'CUDA_INJECTION64_PATH'],
	])('lets no glob pass %s, only its exact name', (name) => {
		const refused = { kind: 'refuse', reason: 'POLICY_ENV', message: expect.stringContaining(`${name},`) };
		for (const glob of ['*', `${name.slice(0, 2)}*`, `${name}*`])
			expect(judge(withEnv(glob), envTask({ [name]: 'x' })), glob).toMatchObject(refused);
		expect(judge(withEnv(name), envTask({ [name]: 'x' }))).toMatchObject({ permit: { env: { [name]: 'x' } } });
	});

	it('keeps its own PATH unless it names PATH', () => {
		const env = { PATH: '/tmp/evil' };
		for (const policy of [POLICY, withEnv('*'), withEnv('PA*')])
			expect(judge(policy, envTask(env))).toMatchObject({ permit: { env: { PATH: policy.run.path } } });
		expect(judge(withEnv('PATH'), envTask(env))).toMatchObject({ permit: { env } });
	});

	it.each(['ENV=x', 'A=B', '', 'BASH_FUNC_a%%', '1A', 'A\0B'])('takes %j for no name of a variable', (name) => {
		expect(judge(withEnv('*'), envTask({ [name]: 'x' }))).toMatchObject({ kind: 'refuse', reason: 'POLICY_ENV' });
	});

	it('refuses more time and more output than the node gives', () => {
		expect(judge(POLICY, run({ argv: ['true'] }), { timeoutMs: 60_001 })).toMatchObject({ reason: 'POLICY_LIMIT' });
		expect(judge(POLICY, run({ argv: ['true'] }), { outputBytesMax: 2 ** 21 })).toMatchObject({
			reason: 'POLICY_LIMIT',
		});
		expect(judge(POLICY, run({ argv: ['true'] }), { timeoutMs: 60_000 })).toMatchObject({ kind: 'permit' });
	});

	it('collects the parts of a bundle that it names', () => {
		expect(judge(POLICY, bundle([]))).toMatchObject({
			permit: { kind: 'collect_bundle', parts: ['kernel', 'disks'], user: 'bob' },
		});
	});

	it('refuses a file with an unknown key or a wrong value, with its place', () => {
		expect(() => parse('[run]\nuser = "bob"')).toThrow(/agent\.policy\.toml:2.*run\.user/s);
		expect(() => parse('[runs]\n')).toThrow(/runs/);
		expect(() => parse('[tasks]\nkinds = ["all"]')).toThrow(/all/);
		expect(() => parse('[run]\nbinaries = ["true"]')).toThrow(/absolute/);
		expect(() => parse('[run]\nenv = ["A=B"]')).toThrow(/names of variables/);
		expect(() => parse('[limits]\nmemory = 5')).toThrow(/unit/);
	});

	it('lets the demo run any program as the person who started it, and nobody else', () => {
		const policy = parse(demoPolicy('carol'));
		expect(judge(policy, run({ argv: ['/anything/at all'] }))).toMatchObject({ permit: { user: 'carol' } });
		expect(judge(policy, envTask({ MODEL: 'x' }))).toMatchObject({ permit: { env: { MODEL: 'x' } } });
		expect(judge(policy, envTask({ LD_PRELOAD: 'x' }))).toMatchObject({ reason: 'POLICY_ENV' });
		expect(judge(policy, run({ argv: ['/x'], user: 'root' }))).toMatchObject({ reason: 'POLICY_USER' });
		expect(judge(policy, reboot)).toMatchObject({ reason: 'POLICY_KIND' });
	});

	it('matches globs whole, and only stars as patterns', () => {
		expect(globMatches('/a/*', '/a/b')).toBe(true);
		expect(globMatches('/a/*', '/a/b/c')).toBe(false);
		expect(globMatches('/a/**', '/a/b/c')).toBe(true);
		expect(globMatches('/a.c', '/abc')).toBe(false);
		expect(globMatches('/a', '/a\n')).toBe(false);
	});
});
