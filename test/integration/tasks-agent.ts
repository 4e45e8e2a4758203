import { join } from 'node:path';
import { GrpcTransport } from '../../agent/control/grpc-transport.ts';
import { OutputUploader } from '../../agent/control/output-uploader.ts';
import { loadIdentity } from '../../agent/identity/stored-identity.ts';
import { SqliteJournal } from '../../agent/journal/sqlite.ts';
import { keepHost } from '../../agent/process-host/keeper.ts';
import { startProcessHost } from '../../agent/process-host/start.ts';
import { DeviceGuard } from '../../agent/tasks/device-guard.ts';
import { demoPolicy, parsePolicy } from '../../agent/tasks/policy.ts';
import type { ProcessHost } from '../../agent/tasks/process-host.ts';
import { TaskRunner } from '../../agent/tasks/runner.ts';
import { RUNNER_LIMITS_DEFAULT } from '../../agent/tasks/runner-deps.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import type { Fact } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { makeAgent } from './link-world.ts';
import { ME, platform } from './tasks-world.ts';

/**
 * An agent in a process of its own that kills itself, as `kill -9` does, when it comes to a named point. Arguments:
 * folder of its identity, folder of its state, point (empty: never). For tasks-crash.test.ts.
 */
const [identityFolder = '', folder = '', crashAt = ''] = process.argv.slice(2);

function reach(point: string): void {
	if (point === crashAt) process.kill(process.pid, 'SIGKILL');
}

class CrashingJournal extends SqliteJournal {
	#depth = 0;
	#cases: string[] = [];

	override appendFacts(facts: readonly Fact[]): readonly Fact[] {
		this.#cases.push(...facts.map(({ fact }) => fact.case ?? ''));
		return super.appendFacts(facts);
	}

	override transaction<T>(change: () => T): T {
		if (this.#depth > 0) return super.transaction(change);
		this.#depth += 1;
		this.#cases = [];
		try {
			const result = super.transaction(() => {
				const made = change();
				for (const name of this.#cases) reach(`before commit of ${name}`);
				return made;
			});
			for (const name of this.#cases) reach(`after commit of ${name}`);
			return result;
		} finally {
			this.#depth -= 1;
		}
	}
}

function crashing(host: ProcessHost): ProcessHost {
	return {
		capabilities: host.capabilities,
		closed: host.closed,
		attach: (key, from) => host.attach(key, from),
		cancel: (key, graceMs) => host.cancel(key, graceMs),
		list: () => host.list(),
		result: (key) => host.result(key),
		allowDevices: (allow) => host.allowDevices(allow),
		subscribe: (listener) => host.subscribe(listener),
		close: () => host.close(),
		async launch(request) {
			reach('before launch');
			const answer = host.launch(request);
			// What was written to the socket is gone from here; its answer isn't waited for.
			clock.defer(() => reach('launch sent'));
			const outcome = await answer;
			reach('after launch');
			return outcome;
		},
		async forget(key) {
			reach('before forget');
			const outcome = await host.forget(key);
			reach('after forget');
			return outcome;
		},
	};
}

const clock = systemClock;
const identity = present(loadIdentity(identityFolder, systemRng), 'the test has enrolled this node');
const journal = new CrashingJournal({ path: join(folder, 'journal.db') });
const policy = parsePolicy(demoPolicy(ME), 'agent.policy.toml');
const runner = new TaskRunner({
	clock,
	log: silentLogger,
	identity,
	journal,
	policy,
	devices: new DeviceGuard({ clock, log: silentLogger, policy }),
	platform: platform(),
	limits: RUNNER_LIMITS_DEFAULT,
});
const connect = async () => crashing(await startProcessHost({ directory: join(folder, 'host'), clock }));
const { signal } = new AbortController();
void keepHost({ clock, rng: systemRng, log: silentLogger, name: 'process host', connect, user: runner }, signal);
const agent = makeAgent(identity, new GrpcTransport(clock), { journal, commands: runner });
const uploader = new OutputUploader({ clock, rng: systemRng, log: silentLogger, output: runner.output });
uploader.start(signal);
agent.control.onConnection((connection) => uploader.setConnection(connection));
agent.start();
