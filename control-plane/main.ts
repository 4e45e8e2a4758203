import { keepAlive, systemClock } from '../kit/clock.ts';
import { configJson, printConfig } from '../kit/config.ts';
import { parseDaemonArgs } from '../kit/config-args.ts';
import { GpuaasError } from '../kit/error.ts';
import { systemRng } from '../kit/ids.ts';
import { jsonLine } from '../kit/json-line.ts';
import { createLogger } from '../kit/log.ts';
import { outliveReaders } from '../kit/standard-streams.ts';
import { ownVersion } from '../kit/version.ts';
import { CONTROL_PLANE_SCHEMA } from './config.ts';
import { newAuditLog } from './new-audit-log.ts';
import { renewAuthority } from './renew-authority.ts';
import { serve } from './serve.ts';
import { loadSettings } from './settings.ts';

/** The control plane's entry. One JSON line on standard output when it is ready; logs go to standard error. */
async function main(argv: readonly string[]): Promise<number> {
	const args = parseDaemonArgs(argv);
	const loaded = loadSettings(args, process.env);
	if (args.printConfig) {
		const settings = args.json
			? jsonLine({ settings: configJson(CONTROL_PLANE_SCHEMA, loaded) })
			: printConfig(CONTROL_PLANE_SCHEMA, loaded);
		process.stdout.write(settings);
		return 0;
	}
	process.umask(0o077);
	const config = loaded.values;
	const log = createLogger({ name: 'control-plane', level: config.core.logLevel });
	const deps = { config, version: ownVersion(import.meta.url), clock: systemClock, rng: systemRng, log };
	const [verb, reason = ''] = args.positionals;
	if (verb === 'new-audit-log') {
		process.stdout.write(jsonLine(await newAuditLog(deps, reason)));
		return 0;
	}
	if (verb === 'renew-authority') {
		process.stdout.write(jsonLine(await renewAuthority(deps)));
		return 0;
	}
	const stop = new AbortController();
	for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop.abort());
	await serve(
		{
			...deps,
			onReady: (addresses) => process.stdout.write(jsonLine({ ready: true, ...addresses })),
		},
		stop.signal,
	);
	return 0;
}

using _alive = keepAlive();
outliveReaders();
try {
	process.exitCode = await main(process.argv.slice(2));
} catch (error) {
	const { message, code, reason } = GpuaasError.from(error);
	// As every verb of the command answers that was asked for JSON.
	if (process.argv.includes('--json')) process.stdout.write(jsonLine({ error: { code, reason, message } }));
	else
		process.stderr.write(`gpuaas control-plane: ${error instanceof GpuaasError ? message : (error as Error).stack}\n`);
	process.exitCode = code === 'INVALID_ARGUMENT' ? 2 : 1;
}
process.exit();
