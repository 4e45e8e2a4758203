import type { Command } from './command.ts';

/**
 * Every verb, loaded only when it is used: `version` and completion must answer before a person notices, and loading
 * the API client alone costs more than that.
 */
export interface Verb {
	readonly name: string;
	readonly summary: string;
	/** Group: its sub-verbs' names, for help and completion without loading it. */
	readonly verbs?: readonly string[];
	load(): Promise<{ readonly commands: readonly Command[] }>;
}

export const VERBS: readonly Verb[] = [
	{
		name: 'up',
		summary: 'Start a control plane and this host as its first node, and run a first task',
		load: () => import('./verbs/up.ts'),
	},
	{
		name: 'run',
		summary: 'Run a program on one or several nodes and stream its output',
		load: () => import('./verbs/run.ts'),
	},
	{ name: 'shell', summary: 'Open a login shell on a node', load: () => import('./verbs/shell.ts') },
	{
		name: 'exec',
		summary: 'Run one command on a node, with its standard streams here',
		load: () => import('./verbs/exec.ts'),
	},
	{
		name: 'terminal',
		summary: 'Terminals and their recordings: list, attach, share, kill, replay, verify',
		verbs: ['list', 'attach', 'share', 'kill', 'recordings', 'replay', 'export', 'verify', 'hold', 'release'],
		load: async () => {
			const [terminals, recordings] = await Promise.all([
				import('./verbs/terminal.ts'),
				import('./verbs/terminal-recordings.ts'),
			]);
			return { commands: [...terminals.commands, ...recordings.commands] };
		},
	},
	{
		name: 'task',
		summary: 'Tasks: list, show, logs, cancel, and check their receipts',
		verbs: ['list', 'show', 'logs', 'cancel', 'receipt'],
		load: () => import('./verbs/task.ts'),
	},
	{
		name: 'cp',
		summary: 'Copy files to a node, or from it',
		load: () => import('./verbs/cp.ts'),
	},
	{
		name: 'forward',
		summary: 'Reach a port of a node from here',
		load: () => import('./verbs/forward.ts'),
	},
	{
		name: 'node',
		summary: 'Nodes: list, show, why, health, cordon, drain, assign, remove',
		verbs: [
			'list',
			'show',
			'why',
			'health',
			'inventory',
			'label',
			'cordon',
			'uncordon',
			'drain',
			'assign',
			'unassign',
			'unlock',
			'remove',
		],
		load: () => import('./verbs/node.ts'),
	},
	{
		name: 'top',
		summary: 'Watch GPUs and nodes live',
		load: () => import('./verbs/top.ts'),
	},
	{
		name: 'gpu',
		summary: 'GPUs: list, show',
		verbs: ['list', 'show'],
		load: () => import('./verbs/gpu.ts'),
	},
	{
		name: 'telemetry',
		summary: 'What nodes measure: watch it, query what it was',
		verbs: ['query', 'watch', 'metrics'],
		load: () => import('./verbs/telemetry.ts'),
	},
	{
		name: 'health',
		summary: 'The health policy and what it would have said; overrides of verdicts, evidence that ends findings',
		verbs: ['policy', 'override', 'evidence'],
		load: () => import('./verbs/health.ts'),
	},
	{
		name: 'fault',
		summary: 'Faults that are injected, to see what happens',
		verbs: ['inject'],
		load: () => import('./verbs/fault.ts'),
	},
	{
		name: 'org',
		summary: 'Organizations: create, list, show, rename, suspend, resume, delete',
		verbs: ['create', 'list', 'show', 'rename', 'suspend', 'resume', 'delete'],
		load: () =>
			import('./verbs/scope.ts').then((module) => ({ commands: module.scopeCommands('org', 'organization') })),
	},
	{
		name: 'department',
		summary: 'Departments: create, list, show, rename, move, suspend, resume, delete',
		verbs: ['create', 'list', 'show', 'rename', 'move', 'suspend', 'resume', 'delete'],
		load: () =>
			import('./verbs/scope.ts').then((module) => ({ commands: module.scopeCommands('department', 'department') })),
	},
	{
		name: 'project',
		summary: 'Projects: create, list, show, rename, move, suspend, resume, delete',
		verbs: ['create', 'list', 'show', 'rename', 'move', 'suspend', 'resume', 'delete'],
		load: () => import('./verbs/scope.ts').then((module) => ({ commands: module.scopeCommands('project', 'project') })),
	},
	{
		name: 'member',
		summary: 'Members of an organization: list, remove',
		verbs: ['list', 'remove'],
		load: () => import('./verbs/principals.ts').then((module) => ({ commands: module.memberCommands })),
	},
	{
		name: 'user',
		summary: 'Users of the platform: list, suspend, resume',
		verbs: ['list', 'suspend', 'resume'],
		load: () => import('./verbs/principals.ts').then((module) => ({ commands: module.userCommands })),
	},
	{
		name: 'group',
		summary: 'Groups: create, list, show, add, remove, delete',
		verbs: ['create', 'list', 'show', 'add', 'remove', 'delete'],
		load: () => import('./verbs/principals.ts').then((module) => ({ commands: module.groupCommands })),
	},
	{
		name: 'service-account',
		summary: 'Service accounts: create, list, suspend, resume, delete',
		verbs: ['create', 'list', 'suspend', 'resume', 'delete'],
		load: () => import('./verbs/principals.ts').then((module) => ({ commands: module.serviceAccountCommands })),
	},
	{
		name: 'invitation',
		summary: 'Invitations: create, list, revoke',
		verbs: ['create', 'list', 'revoke'],
		load: () => import('./verbs/invitation.ts'),
	},
	{
		name: 'role',
		summary: 'Roles: list, show, create, update, delete',
		verbs: ['list', 'show', 'create', 'update', 'delete'],
		load: () => import('./verbs/access.ts').then((module) => ({ commands: module.roleCommands })),
	},
	{
		name: 'binding',
		summary: 'Who has which role where: list, create, delete',
		verbs: ['list', 'create', 'delete'],
		load: () => import('./verbs/access.ts').then((module) => ({ commands: module.bindingCommands })),
	},
	{
		name: 'guardrail',
		summary: 'What is forbidden whatever roles say: list, create, delete',
		verbs: ['list', 'create', 'delete'],
		load: () => import('./verbs/access.ts').then((module) => ({ commands: module.guardrailCommands })),
	},
	{
		name: 'key',
		summary: 'API keys: create, list, rotate, revoke',
		verbs: ['create', 'list', 'rotate', 'revoke'],
		load: () => import('./verbs/key.ts'),
	},
	{
		name: 'iam',
		summary: 'Why a call is allowed or refused, who may make it, and how strongly people log in',
		verbs: ['explain', 'who-can', 'mfa'],
		load: async () => {
			const [access, mfa] = await Promise.all([import('./verbs/access.ts'), import('./verbs/mfa.ts')]);
			return { commands: [...access.iamCommands, ...mfa.mfaCommands] };
		},
	},
	{
		name: 'quota',
		summary: 'How much organizations, departments and projects may have: show, usage, set',
		verbs: ['show', 'usage', 'set'],
		load: () => import('./verbs/quota.ts'),
	},
	{
		name: 'entitlement',
		summary: 'GPU models and features by contract: list, grant, end',
		verbs: ['list', 'grant', 'end'],
		load: () => import('./verbs/entitlement.ts'),
	},
	{
		name: 'feature',
		summary: 'How far features are rolled out: list, set, unset',
		verbs: ['list', 'set', 'unset'],
		load: () => import('./verbs/feature.ts'),
	},
	{
		name: 'token',
		summary: 'Join tokens: create, list, revoke',
		verbs: ['create', 'list', 'revoke'],
		load: () => import('./verbs/token.ts'),
	},
	{
		name: 'cert',
		summary: 'Certificates: list, revoke',
		verbs: ['list', 'revoke'],
		load: () => import('./verbs/cert.ts'),
	},
	{
		name: 'ca',
		summary: 'Certificate authority: status, rotate, renew',
		verbs: ['status', 'rotate', 'renew'],
		load: () => import('./verbs/ca.ts'),
	},
	{
		name: 'audit',
		summary: 'Audit log: list, export, verify, new-log',
		verbs: ['list', 'export', 'verify', 'new-log'],
		load: () => import('./verbs/audit.ts'),
	},
	{
		name: 'operation',
		summary: 'Long-running work: list, show, cancel',
		verbs: ['list', 'show', 'cancel'],
		load: () => import('./verbs/operation.ts'),
	},
	{
		name: 'login',
		summary: 'Log in to a control plane, at its identity provider or with an API key',
		load: () => import('./verbs/login.ts'),
	},
	{
		name: 'login-domain',
		summary: 'Domains whose people come in without an invitation: create, list, delete',
		verbs: ['create', 'list', 'delete'],
		load: () => import('./verbs/login-domain.ts'),
	},
	{
		name: 'logout',
		summary: 'End the login of a context, here, at the control plane and at the provider',
		load: () => import('./verbs/logout.ts'),
	},
	{
		name: 'approval',
		summary: 'Two-person approvals: request, list, approve, reject',
		verbs: ['request', 'list', 'approve', 'reject'],
		load: () => import('./verbs/approval.ts'),
	},
	{
		name: 'break-glass',
		summary: 'The way in while the identity provider is down: register, begin, sign, complete, end',
		verbs: ['make-credential', 'sign', 'register', 'remove', 'list', 'begin', 'complete', 'end'],
		load: async () => {
			const [signing, keys] = await Promise.all([
				import('./verbs/break-glass-signing.ts'),
				import('./verbs/break-glass.ts'),
			]);
			return { commands: [...signing.commands, ...keys.commands] };
		},
	},
	{
		name: 'context',
		summary: 'Contexts: list, use, show, remove',
		verbs: ['list', 'use', 'show', 'remove'],
		load: () => import('./verbs/context.ts'),
	},
	{ name: 'whoami', summary: 'Who the control plane says that you are', load: () => import('./verbs/whoami.ts') },
	{
		name: 'control-plane',
		summary: 'The daemon that operators run',
		verbs: ['serve'],
		load: () => import('./verbs/control-plane.ts'),
	},
	{
		name: 'agent',
		summary: 'The daemon of a GPU host: run, enroll, status, host',
		verbs: ['run', 'enroll', 'status', 'host', 'pty-host'],
		load: () => import('./verbs/agent.ts'),
	},
	{
		name: 'doctor',
		summary: 'Check prerequisites, ports, clock, disk, certificates and store, and say what to do',
		load: () => import('./verbs/doctor.ts'),
	},
	{ name: 'version', summary: 'Print the version', load: () => import('./verbs/version.ts') },
	{
		name: 'completion',
		summary: 'Print a completion script for bash, zsh or fish',
		load: () => import('./verbs/completion.ts'),
	},
];
