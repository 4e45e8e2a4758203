import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { keepAlive, systemClock } from '../kit/clock.ts';
import { configJson, printConfig } from '../kit/config.ts';
import { parseDaemonArgs } from '../kit/config-args.ts';
import { GpuaasError } from '../kit/error.ts';
import { systemRng } from '../kit/ids.ts';
import { jsonLine } from '../kit/json-line.ts';
import { createLogger, StandardError } from '../kit/log.ts';
import { LogRing } from '../kit/log-ring.ts';
import { outliveReaders } from '../kit/standard-streams.ts';
import { ownVersion } from '../kit/version.ts';
import { AGENT_SCHEMA, type AgentConfig } from './config.ts';
import { enrollByToken } from './identify.ts';
import type { StoredIdentity } from './identity/stored-identity.ts';
import { readPlatformFacts } from './platform/facts.ts';
import { prepareHostUnit } from './process-host/start.ts';
import { preparePtyHostUnit } from './pty-host/start.ts';
import { hostConfigOf, runAgent } from './run.ts';
import { foldersOf, loadSettings } from './settings.ts';
import { readAgentStatus, statusText } from './status.ts';
import { demoPolicy } from './tasks/policy.ts';

/** The node-agent's entry: `run`, `enroll`, `status`, `host` and `pty-host` (those, in units of their own), `policy USER`. Exit codes: 0 done, 1 failed, 2 wrong arguments. */
async function main(argv: readonly string[]): Promise<number> {
	const [verb = '', ...rest] = argv;
	if (verb === 'policy') {
		process.stdout.write(demoPolicy(rest[0] ?? 'nobody'));
		return 0;
	}
	const args = parseDaemonArgs(rest);
	const loaded = loadSettings(args, process.env);
	const config = loaded.values;
	if (args.printConfig) {
		const settings = args.json
			? jsonLine({ settings: configJson(AGENT_SCHEMA, loaded) })
			: printConfig(AGENT_SCHEMA, loaded);
		process.stdout.write(settings);
		return 0;
	}
	if (verb === 'host') {
		// Becomes the process host: its unit delegates its cgroup to it, and the memory of an agent would slow its forks.
		const { argv, env } = prepareHostUnit(foldersOf(config).processHost, {
			...hostConfigOf(config),
			cgroup: 'delegated',
		});
		process.execve?.(process.execPath, [...argv], { ...env });
	}
	if (verb === 'pty-host') {
		const { argv, env } = preparePtyHostUnit(foldersOf(config).ptyHost, {
			channelsMax: config.terminal.channelsMax,
			cgroup: 'delegated',
		});
		process.execve?.(process.execPath, [...argv], { ...env });
	}
	if (verb === 'status') {
		const status = await readAgentStatus(config, systemClock, systemRng);
		process.stdout.write(args.json ? jsonLine(status) : statusText(status));
		return 0;
	}
	process.umask(0o077);
	const ring = new LogRing(new StandardError(), RECENT_LOG_BYTES_MAX);
	// Whoever enrolls by hand reads the sentence below; a log is for a program, or for whoever sets its level.
	const isForPerson = verb === 'enroll' && !args.json && loaded.sources['core.log_level'] === 'default';
	const level = isForPerson ? 'warn' : config.core.logLevel;
	const log = createLogger({ name: 'node-agent', level, destination: ring });
	const base = {
		config,
		version: ownVersion(import.meta.url),
		clock: systemClock,
		rng: systemRng,
		log,
		recentLog: ring,
	};
	if (verb === 'enroll') {
		await mkdir(config.core.data, { recursive: true, mode: 0o700 });
		const identity = await enrollByToken({ ...base, facts: readPlatformFacts() });
		process.stdout.write(
			args.json ? jsonLine({ nodeId: identity.nodeId, nodeName: identity.nodeName }) : enrolledText(identity, config),
		);
		return 0;
	}
	if (verb !== 'run') {
		process.stderr.write(`gpuaas agent: there is no ${JSON.stringify(verb)}; use run, enroll or status\n`);
		return 2;
	}
	const stop = new AbortController();
	for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop.abort());
	const onReady = (identity: { readonly nodeId: string; readonly nodeName: string }) => {
		process.stdout.write(jsonLine({ ready: true, nodeId: identity.nodeId, nodeName: identity.nodeName }));
	};
	await runAgent({ ...base, onReady }, stop.signal);
	return 0;
}

/** What comes next; and what a new host most often lacks, said before its first task is refused. */
function enrolledText(identity: StoredIdentity, { core }: AgentConfig): string {
	const lines = [
		`enrolled as node ${identity.nodeName} (${identity.nodeId})`,
		'next: start its unit, or: gpuaas agent run, with the same settings',
	];
	if (!existsSync(core.policy))
		lines.push(`${core.policy} isn't there: until it says what may run, every task and terminal is refused`);
	return `${lines.join('\n')}\n`;
}

/** Some thousand lines: what led to what is being looked into. */
const RECENT_LOG_BYTES_MAX = 512 * 1024;

using _alive = keepAlive();
outliveReaders();
try {
	process.exitCode = await main(process.argv.slice(2));
} catch (error) {
	const { message, code, reason } = GpuaasError.from(error);
	// As every verb of the command answers that was asked for JSON.
	if (process.argv.includes('--json')) process.stdout.write(jsonLine({ error: { code, reason, message } }));
	else process.stderr.write(`gpuaas agent: ${error instanceof GpuaasError ? message : (error as Error).stack}\n`);
	process.exitCode = code === 'INVALID_ARGUMENT' ? 2 : 1;
}
process.exit();
