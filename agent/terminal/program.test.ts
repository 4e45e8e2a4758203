import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { describe, expect, test } from 'vitest';
import { ChannelSpecSchema, CopyAccess } from '../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';
import { DENY_ALL, parsePolicy } from '../tasks/policy.ts';
import { judgeProgram, type ProgramPlatform } from './program.ts';

/** What the owner of the host decides, whoever signs the order. */
const POLICY = parsePolicy(
	`[terminal]
modes = ["shell", "exec", "copy", "forward"]
users = ["jane", "root"]
default_user = "jane"
shells = ["/bin/bash"]
binaries = ["/usr/bin/*"]
[files]
read = true
[forward]
own = true
[limits]
processes = 64
`,
	'agent.policy.toml',
);
const platform: ProgramPlatform = {
	isExecutable: (path: string) => path.startsWith('/usr/bin/') || path === '/bin/bash',
	realPath: (path: string) => (path === '/usr/bin/link' ? '/home/jane/own' : path),
	findAccount: (user: string) => (user === 'jane' ? { home: '/home/jane', shell: '/bin/bash' } : undefined),
	gateways: ['10.2.0.1:9443'],
	management: [],
	helpers: { argv: (part: string, argument: string) => [`/helper/${part}`, argument] },
} as unknown as ProgramPlatform;

type Spec = MessageInitShape<typeof ChannelSpecSchema>;
const judge = (spec: Spec, policy = POLICY) => judgeProgram(policy, create(ChannelSpecSchema, spec), platform);
const shell = (more: Spec = {}, path = ''): Spec => ({ kind: { case: 'shell', value: { shell: path } }, ...more });
const exec = (...argv: string[]): Spec => ({ kind: { case: 'exec', value: { argv } } });
const copy = (access: CopyAccess): Spec => ({ kind: { case: 'copy', value: { access, path: '/etc/hostname' } } });
const forward = (host: string): Spec => ({ kind: { case: 'forward', value: { host, port: 8888 } } });

describe('a node', () => {
	test('without a policy opens nothing of any kind', () => {
		for (const spec of [shell(), exec('true'), copy(CopyAccess.READ), forward('')])
			expect(judge(spec, DENY_ALL)).toMatchObject({ kind: 'refused', reason: 'POLICY_TERMINAL' });
	});

	test('opens only the kinds that its policy lists', () => {
		const policy = parsePolicy('[terminal]\nmodes = ["exec"]\nusers = ["jane"]\nbinaries = ["/usr/bin/*"]', 'p');
		expect(judge({ ...exec('true'), user: 'jane' }, policy)).toMatchObject({ kind: 'ok' });
		for (const spec of [shell(), copy(CopyAccess.READ), forward('')])
			expect(judge({ ...spec, user: 'jane' }, policy)).toMatchObject({ kind: 'refused', reason: 'POLICY_TERMINAL' });
	});
});

describe('an account', () => {
	test('is the one that is asked for, else the usual one, and only one that is listed', () => {
		expect(judge(shell())).toMatchObject({ kind: 'ok', program: { user: 'jane' } });
		for (const spec of [shell(), exec('true'), copy(CopyAccess.READ), forward('')])
			expect(judge({ ...spec, user: 'bob' })).toMatchObject({ kind: 'refused', reason: 'POLICY_USER' });
	});

	test('is never root unless the policy says so in its own words', () => {
		for (const spec of [shell(), exec('true'), copy(CopyAccess.READ), forward('')])
			expect(judge({ ...spec, user: 'root' })).toMatchObject({ kind: 'refused', reason: 'POLICY_USER' });
		const own = { ...POLICY, terminal: { ...POLICY.terminal, root: true } };
		expect(judge({ ...exec('true'), user: 'root' }, own)).toMatchObject({ kind: 'ok', program: { user: 'root' } });
	});

	test('gets a login environment of its own; what a person brings is what the policy lets in', () => {
		const env = { LANG: 'de_DE', LD_PRELOAD: '/x', HOME: '/x', PATH: '/x', TERM: 'xterm\u0007' };
		expect(judge(shell({ env }))).toMatchObject({
			program: {
				argv: ['/bin/bash', '-l'],
				cwd: '/home/jane',
				limits: { processes: 64 },
				env: {
					PATH: POLICY.terminal.path,
					...{ HOME: '/home/jane', USER: 'jane', LOGNAME: 'jane', SHELL: '/bin/bash' },
					...{ LANG: 'de_DE', TERM: 'xterm-256color' },
				},
			},
		});
		expect(JSON.stringify(judge(shell({ env })))).not.toContain('LD_PRELOAD');
	});
});

describe('a program', () => {
	test('is a shell that is listed and there', () => {
		expect(judge(shell({}, '/bin/zsh'))).toMatchObject({ kind: 'refused', reason: 'POLICY_SHELL' });
		const gone = { ...POLICY, terminal: { ...POLICY.terminal, shells: ['/bin/*'] } };
		expect(judge(shell({}, '/bin/gone'), gone)).toMatchObject({ kind: 'refused', reason: 'SHELL_MISSING' });
	});

	test('of a command is listed, and so is what it leads to', () => {
		expect(judge(exec('true'))).toMatchObject({ kind: 'ok', program: { argv: ['/usr/bin/true'] } });
		expect(judge(exec('/home/jane/own'))).toMatchObject({ kind: 'refused', reason: 'POLICY_BINARY' });
		expect(judge(exec('link'))).toMatchObject({ kind: 'refused', reason: 'POLICY_BINARY' });
		expect(judge(exec('/usr/bin/../../home/jane/own'))).toMatchObject({ kind: 'refused', reason: 'POLICY_BINARY' });
	});

	test('that copies reads where files are read and writes where they are written', () => {
		expect(judge(copy(CopyAccess.READ))).toMatchObject({
			kind: 'ok',
			program: { argv: ['/helper/files', expect.any(String)] },
		});
		expect(judge(copy(CopyAccess.WRITE))).toMatchObject({ kind: 'refused', reason: 'POLICY_FILES' });
		const writes = { ...POLICY, files: { ...POLICY.files, read: false, write: true } };
		expect(judge(copy(CopyAccess.WRITE), writes)).toMatchObject({ kind: 'ok' });
		expect(judge(copy(CopyAccess.READ), writes)).toMatchObject({ kind: 'refused', reason: 'POLICY_FILES' });
	});

	test('that forwards is told what it never reaches', () => {
		const verdict = judge(forward(''));
		expect(verdict).toMatchObject({ kind: 'ok', program: { user: 'jane' } });
		expect(JSON.stringify(verdict)).toContain('10.2.0.1');
		const closed = { ...POLICY, forward: { ...POLICY.forward, own: false } };
		expect(judge(forward(''), closed)).toMatchObject({ kind: 'refused', reason: 'POLICY_FORWARD' });
	});
});
