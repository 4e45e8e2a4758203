import { join } from 'node:path';
import { type Command, take, usageError } from '../command.ts';
import { pickContext } from '../contexts.ts';
import { becomeDaemon } from '../daemon.ts';
import { CONFIG_OPTIONS, configFlags } from './control-plane.ts';

const run: Command = {
	name: 'agent run',
	isLocal: true,
	summary: 'Run the node-agent in the foreground',
	options: CONFIG_OPTIONS,
	examples: [['gpuaas agent run --config /etc/gpuaas/agent.toml', 'As the unit in packaging/ does']],
	async run(args) {
		take(run, args);
		return becomeDaemon('agent', ['run', ...configFlags(args, { 'core.data': args.text('data') })]);
	},
};

const enroll: Command = {
	name: 'agent enroll',
	isLocal: true,
	summary: 'Get this host a certificate with a join token, and stop',
	description:
		'The private key is made here and never leaves this host. The token comes from a file, never from the command line.',
	options: {
		...CONFIG_OPTIONS,
		address: { type: 'string', value: 'HOST:PORT', help: 'Enrollment listener of the control plane' },
		'token-file': { type: 'string', value: 'FILE', help: 'File with the join token; it is removed once used' },
	},
	examples: [
		['gpuaas agent enroll --address cp.example:9444 --token-file /run/gpuaas/token', 'Then: gpuaas agent run'],
	],
	async run(args) {
		take(enroll, args);
		const file = args.text('token-file');
		if (file === undefined && args.text('config') === undefined) throw usageError(enroll, '--token-file is missing');
		const sets = { 'core.data': args.text('data'), 'enroll.address': args.text('address'), 'enroll.token_file': file };
		return becomeDaemon('agent', ['enroll', ...configFlags(args, sets)]);
	},
};

const status: Command = {
	name: 'agent status',
	summary: 'What the agent of this host holds: identity, certificate, journal, running tasks',
	options: CONFIG_OPTIONS,
	examples: [['gpuaas agent status --data .gpuaas/agent', 'Reads the data folder; needs no running agent']],
	async run(args, io) {
		take(status, args);
		const isNamed = args.text('data') !== undefined || args.text('config') !== undefined;
		const context = isNamed ? undefined : await pickContext(io, args.text('context')).catch(() => undefined);
		const data = args.text('data') ?? (context?.data === undefined ? undefined : join(context.data, 'agent'));
		return becomeDaemon('agent', ['status', ...configFlags(args, { 'core.data': data })]);
	},
};

const host: Command = {
	name: 'agent host',
	isLocal: true,
	summary: 'Run the process host, which owns the processes of tasks, in the foreground',
	description:
		'For a systemd unit of its own (packaging/systemd), so that tasks outlive a stop or upgrade of the agent. Elsewhere the agent starts one by itself.',
	options: CONFIG_OPTIONS,
	examples: [['gpuaas agent host --config /etc/gpuaas/agent.toml', 'As the unit in packaging/ does']],
	exitCodes: ['75 another one owns the folder'],
	async run(args) {
		take(host, args);
		return becomeDaemon('agent', ['host', ...configFlags(args, { 'core.data': args.text('data') })]);
	},
};

const ptyHost: Command = {
	name: 'agent pty-host',
	isLocal: true,
	summary: 'Run the pty host, which owns the processes of terminals, in the foreground',
	description:
		'For a systemd unit of its own (packaging/systemd), so that shells outlive a stop or upgrade of the agent. Elsewhere the agent starts one by itself.',
	options: CONFIG_OPTIONS,
	examples: [['gpuaas agent pty-host --config /etc/gpuaas/agent.toml', 'As the unit in packaging/ does']],
	exitCodes: ['75 another one owns the folder'],
	async run(args) {
		take(ptyHost, args);
		return becomeDaemon('agent', ['pty-host', ...configFlags(args, { 'core.data': args.text('data') })]);
	},
};

export const commands: readonly Command[] = [run, enroll, status, host, ptyHost];
