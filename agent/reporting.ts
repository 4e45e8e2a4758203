import { rename, writeFile } from 'node:fs/promises';
import { every } from '../kit/clock.ts';
import type { Scope } from '../kit/scope.ts';
import type { AgentDeps } from './agent-deps.ts';
import { AUDIT_HEAD, formerHeads } from './control/audit-head.ts';
import type { Control } from './control/session.ts';
import type { AgentIdentity } from './identity/identity.ts';
import type { Renewal } from './identity/renewal.ts';
import { identityStatus } from './identity/status.ts';
import type { Journal } from './journal/journal.ts';
import { type PlatformFacts, survivalWarning } from './platform/facts.ts';
import { managerAdvice } from './platform/user-managers.ts';
import type { AgentFolders } from './settings.ts';
import type { DeviceGuard } from './tasks/device-guard.ts';
import type { Telemetry } from './telemetry/telemetry.ts';

const READY_POLL_MS = 20;
const STATUS_PERIOD_MS = 5000;

export function announceReady(deps: AgentDeps, control: Control, identity: AgentIdentity, scope: Scope): void {
	const timer = every(
		deps.clock,
		READY_POLL_MS,
		() => {
			if (control.state().phase !== 'connected') return;
			timer.cancel();
			deps.onReady(identity);
		},
		(error) => deps.log.error('readiness could not be told', { error }),
	);
	scope.defer(() => timer.cancel());
}

/** A snapshot for `agent status`, which must work when the agent doesn't answer. */
export function writeStatus(
	deps: AgentDeps,
	folders: AgentFolders,
	parts: {
		readonly control: Control;
		readonly identity: AgentIdentity;
		readonly renewal: Renewal;
		readonly journal: Journal;
		readonly telemetry: Telemetry | undefined;
		readonly devices: DeviceGuard;
		readonly facts: Pick<PlatformFacts, 'isFirstProcess'>;
	},
	scope: Scope,
): void {
	const { clock, log } = deps;
	const { control, identity, renewal, journal, telemetry, devices, facts } = parts;
	const survival = survivalWarning(facts);
	if (survival !== undefined) log.warn(survival);
	const write = async () => {
		const { clockOffsetMs } = control.state();
		if (clockOffsetMs !== undefined) renewal.noteServerTime(clock.now() + clockOffsetMs);
		const document = {
			at: new Date(clock.now()).toISOString(),
			certificate: identityStatus(identity, clock.now(), renewal.facts()),
			link: control.state(),
			telemetry: telemetry?.status ?? null,
			devices: {
				isolation: devices.isolation,
				mechanism: devices.mechanism ?? 'unknown',
				leaks: devices.leaks().map(managerAdvice),
			},
			survival: survival ?? '',
		};
		await writeFile(`${folders.status}.tmp`, `${JSON.stringify(document)}\n`, { mode: 0o600 });
		await rename(`${folders.status}.tmp`, folders.status);
		// Whoever doubts the control plane compares its log with what this agent kept: gpuaas audit verify --anchors.
		await writeFile(folders.auditHead, journal.getSetting(AUDIT_HEAD) ?? '', { mode: 0o644 });
		for (const { log: number, note } of formerHeads(journal))
			await writeFile(`${folders.auditHead}.log-${number}`, note, { mode: 0o644 });
	};
	const report = (error: unknown) => log.warn('the status file could not be written', { error });
	let isWriting = false;
	const tick = () => {
		// One at a time: two would share the temporary file.
		if (isWriting) return;
		isWriting = true;
		void write()
			.catch(report)
			.finally(() => {
				isWriting = false;
			});
	};
	const timer = every(clock, STATUS_PERIOD_MS, tick, report);
	scope.defer(() => timer.cancel());
}
