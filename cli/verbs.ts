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
	{
		name: 'task',
		summary: 'Tasks: list, show, logs, cancel, and check their receipts',
		verbs: ['list', 'show', 'logs', 'cancel', 'receipt'],
		load: () => import('./verbs/task.ts'),
	},
	{
		name: 'node',
		summary: 'Nodes: list, show, why, cordon, drain, assign, remove',
		verbs: ['list', 'show', 'why', 'label', 'cordon', 'uncordon', 'drain', 'assign', 'unassign', 'unlock', 'remove'],
		load: () => import('./verbs/node.ts'),
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
		summary: 'Certificate authority: status, rotate',
		verbs: ['status', 'rotate'],
		load: () => import('./verbs/ca.ts'),
	},
	{
		name: 'audit',
		summary: 'Audit log: list, export, verify',
		verbs: ['list', 'export', 'verify'],
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
		summary: 'Store the address, trust and key of a control plane as a context',
		load: () => import('./verbs/login.ts'),
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
		verbs: ['run', 'enroll', 'status', 'host'],
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
