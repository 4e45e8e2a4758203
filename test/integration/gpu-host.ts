import { once } from 'node:events';
import { appendFileSync, copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { AgentStatus } from '../../agent/status.ts';
import { FakeDriver } from '../fakes/nvml/build.ts';
import type { Ready, Started, UpWorld } from './up-world.ts';

/** A second host of a running product whose GPUs are the fake driver's; its kernel log is a file. */
export class GpuHost {
	readonly driver: FakeDriver;
	readonly data: string;
	readonly #world: UpWorld;
	readonly #kmsg: string;
	#agent: Started | undefined;
	#sequence = 0;

	constructor(world: UpWorld, scenario: string, name = 'gpu-host') {
		this.#world = world;
		this.data = join(world.root, name);
		mkdirSync(this.data, { mode: 0o700 });
		this.driver = new FakeDriver(join(world.root, `${name}-driver`), scenario);
		this.#kmsg = join(world.root, `${name}-kmsg`);
		writeFileSync(this.#kmsg, '');
	}

	async enroll({ enroll }: Ready, name: string): Promise<void> {
		const token = join(this.data, 'token');
		const created = await this.#world.run('token', 'create', '--name', name);
		writeFileSync(token, created.stdout, { mode: 0o600 });
		const argv = ['agent', 'enroll', '--data', this.data, '--address', enroll, '--token-file', token];
		const enrolled = await this.#world.run(...argv);
		if (enrolled.code !== 0) throw new Error(enrolled.stderr);
		copyFileSync(join(this.#world.data, 'agent.policy.toml'), join(this.data, 'policy.toml'));
	}

	/** `settings`: over those of the host, as `section.key=value`. */
	async start(...settings: string[]): Promise<Started> {
		const all = [
			`core.policy=${join(this.data, 'policy.toml')}`,
			'tasks.stop_host_with_agent=true',
			'gpu.probe=on',
			`gpu.library=${this.driver.library}`,
			`gpu.kmsg=${this.#kmsg}`,
			...settings,
		];
		const agent = this.#world.start(['agent', 'run', '--data', this.data, ...all.flatMap((one) => ['--set', one])]);
		this.#agent = agent;
		await agent.line((line) => line.includes('"ready":true'));
		return agent;
	}

	/** SIGTERM; resolves when it is gone. A probe that waits in D outlives it and keeps its standard error open. */
	async stop(): Promise<void> {
		const child = this.#agent?.child;
		this.#agent = undefined;
		if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
		const gone = once(child, 'exit');
		child.kill('SIGTERM');
		await gone;
	}

	/** A line of the kernel, as /dev/kmsg gives it. */
	kernelSays(text: string): void {
		this.#sequence += 1;
		appendFileSync(this.#kmsg, `4,${this.#sequence},${this.#sequence * 1_000_000},-;${text}\n`);
	}

	status(): AgentStatus['telemetry'] {
		return (JSON.parse(readFileSync(join(this.data, 'status.json'), 'utf8')) as AgentStatus).telemetry;
	}
}
