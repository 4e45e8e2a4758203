import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { parseApiKey } from '../../control-plane/app/iam/api-key.ts';
import { BOOTSTRAP_PRINCIPAL_ID } from '../../control-plane/app/iam/bootstrap.ts';
import { SessionRegistry } from '../../control-plane/app/sessions/registry.ts';
import { assert, present } from '../../kit/assert.ts';
import { AssignmentMode, NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { HealthClearing, HealthService } from '../../proto/gen/gpuaas/telemetry/v1/health_pb.ts';
import { HealthFactKind, HealthSubjectKind } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { TelemetryService } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_service_pb.ts';
import { FileService, PortService } from '../../proto/gen/gpuaas/terminals/v1/files_pb.ts';
import { RecordingService } from '../../proto/gen/gpuaas/terminals/v1/recordings_pb.ts';
import { AttachMode, TerminalService } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import type { ApiWorld } from './api-world.ts';
import { addRecording } from './recordings-world.ts';
import { addTerminal } from './terminal-samples.ts';

/** One successful call of every mutation of terminals, files, ports, recordings, telemetry and health, as the operator. */
export function channelMutations(world: () => ApiWorld): Record<string, () => Promise<() => Promise<unknown>>> {
	const terminals = () => world().client(TerminalService, world().operatorKey);
	const files = () => world().client(FileService, world().operatorKey);
	const recordings = () => world().client(RecordingService, world().operatorKey);
	const health = () => world().client(HealthService, world().operatorKey);
	return {
		SetNodeHealthOverride: async () => {
			const node = (await world().addNode()).id;
			return () => health().setNodeHealthOverride({ node, schedulable: true, reason: 'we know', duration: HOUR });
		},
		ClearNodeHealthOverride: async () => {
			const node = (await world().addNode()).id;
			await health().setNodeHealthOverride({ node, schedulable: false, reason: 'odd', duration: HOUR });
			return () => health().clearNodeHealthOverride({ node });
		},
		RecordNodeHealthEvidence: async () => {
			const node = (await world().addNode()).id;
			const clearing = HealthClearing.SERVICED;
			return () => health().recordNodeHealthEvidence({ node, clearing, reason: 'a new GPU' });
		},
		InjectNodeFault: async () => {
			const node = (await world().addNode({ labels: { 'gpuaas.fault-injection': 'allowed' } })).id;
			const faults = [{ kind: HealthFactKind.PROBE_HUNG, subject: { kind: HealthSubjectKind.NODE } }];
			return () => health().injectNodeFault({ node, faults, reason: 'drill', duration: HOUR });
		},
		OpenTerminal: async () => {
			const node = await connectedNode(world());
			return () => terminals().openTerminal({ node, spec: SHELL });
		},
		AttachTerminal: async () => {
			const terminalId = await endedTerminal(world());
			return () => drain(terminals().attachTerminal(attachTo(terminalId)));
		},
		ObserveTerminal: async () => {
			const terminalId = await endedTerminal(world());
			return () => drain(terminals().observeTerminal({ terminalId }));
		},
		ShareTerminal: async () => {
			const terminalId = await openTerminal(world());
			const key = parseApiKey(await world().addPrincipal('user', 'platform.operator', 'platform'));
			const principalId = `principal-${present(key, 'a key').id}`;
			return () => terminals().shareTerminal({ terminalId, principalId, mode: AttachMode.OBSERVE });
		},
		KillTerminal: async () => {
			const terminalId = await openTerminal(world());
			return () => terminals().killTerminal({ terminalId, reason: 'left open' });
		},
		ReadFiles: async () => {
			const node = await connectedNode(world());
			return () => files().readFiles({ node, path: '/etc/hostname' });
		},
		WriteFiles: async () => {
			const node = await connectedNode(world());
			return () => files().writeFiles({ node, path: '/tmp/x' });
		},
		ForwardPort: async () => {
			const node = await connectedNode(world());
			return () => world().client(PortService, world().operatorKey).forwardPort({ node, port: 8888 });
		},
		HoldRecording: async () => {
			const recordingId = await addRecording(world(), await assignedNode(world()));
			return () => recordings().holdRecording({ recordingId, reason: 'a court asks' });
		},
		ReleaseRecording: async () => {
			const recordingId = await addRecording(world(), await assignedNode(world()));
			await recordings().holdRecording({ recordingId, reason: 'a court asks' });
			return () => recordings().releaseRecording({ recordingId, reason: 'it has decided' });
		},
		RequestFastTelemetry: async () => {
			const node = await connectedNode(world());
			return () => world().client(TelemetryService, world().operatorKey).requestFastTelemetry({ node });
		},
	};
}

const HOUR = durationFromMs(3_600_000);
const SHELL = { kind: { case: 'shell' as const, value: {} } };

/** A node with a live session that takes every command: what is recorded here does not depend on the answer. */
export async function connectedNode(world: ApiWorld): Promise<string> {
	const { id: nodeId } = await world.addNode();
	const { sessions } = world.deps;
	assert(sessions instanceof SessionRegistry, 'an API world has a registry of its own');
	sessions.add({ nodeId, epoch: 1, serial: '', command: () => true, close: () => {} });
	return nodeId;
}

async function openTerminal(world: ApiWorld): Promise<string> {
	const node = await connectedNode(world);
	const client = world.client(TerminalService, world.operatorKey);
	return present((await client.openTerminal({ node, spec: SHELL })).terminal, 'a terminal').id;
}

async function endedTerminal(world: ApiWorld): Promise<string> {
	return addTerminal(world, (await world.addNode()).id, BOOTSTRAP_PRINCIPAL_ID);
}

async function assignedNode(world: ApiWorld): Promise<string> {
	const { id } = await world.addNode();
	const project = { organization: 'acme', project: 'train', mode: AssignmentMode.SLICE };
	await world.client(NodeService, world.operatorKey).assignNode({ node: id, ...project });
	return id;
}

async function* attachTo(terminalId: string) {
	yield { terminalId, message: { case: 'attach' as const, value: { mode: AttachMode.OBSERVE } } };
}

async function drain(stream: AsyncIterable<unknown>): Promise<void> {
	for await (const _ of stream);
}
