import { createSecureServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { create } from '@bufbuild/protobuf';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import { issueReplicaCertificate } from '../../control-plane/app/certificates/replica-certificate.ts';
import type { RunningAuthority } from '../../control-plane/app/certificates/running-authority.ts';
import { SystemService } from '../../proto/gen/gpuaas/system/v1/system_pb.ts';
import { TaskService, TaskSpecSchema } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { ApiWorld } from '../integration/api-world.ts';
import { taskRow } from '../integration/tasks-world.ts';
import { serveParent } from './child.ts';

/** The API of a control plane, and an echo on bare connect-node that answers the same calls with the same bytes. */
export interface ApiReady {
	readonly url: string;
	readonly bareUrl: string;
	readonly rootPem: string;
	readonly key: string;
	readonly taskId: string;
}

const unlimited = { perSecond: 1e9, burst: 1e9 };
await using world = await ApiWorld.start({
	// One caller stands for all: what is measured is the work of a call, not the limit of an address.
	api: { perAddress: unlimited, perPrincipal: { read: unlimited, write: unlimited, stream: unlimited } },
});
const node = await world.addNode();
const spec = create(TaskSpecSchema, { kind: { case: 'run', value: { argv: ['/bin/true'] } } });
const task = taskRow(node.id, spec);
await world.deps.store.unit((tx) => tx.tasks.insert(task));

const version = await world.client(SystemService).getVersion({});
const got = await world.client(TaskService, world.operatorKey).getTask({ taskId: task.id });
const tls = await issueReplicaCertificate(world.deps, world.deps.authority as RunningAuthority, {
	replicaId: 'bare',
	dnsNames: ['localhost'],
	ipAddresses: ['127.0.0.1'],
});
const handle = connectNodeAdapter({
	routes(router) {
		router.service(SystemService, { getVersion: () => version });
		router.service(TaskService, { getTask: () => got });
	},
});
const bare = createSecureServer({ cert: tls.chainPem, key: tls.keyPem }, handle);
await new Promise<void>((resolve) => bare.listen(0, '127.0.0.1', resolve));

const ready: ApiReady = {
	url: world.url,
	bareUrl: `https://127.0.0.1:${(bare.address() as AddressInfo).port}`,
	rootPem: world.rootPem,
	key: world.operatorKey,
	taskId: task.id,
};
// The only question: how much CPU time this process has used, in microseconds.
await serveParent(ready, async () => {
	const { user, system } = process.cpuUsage();
	return user + system;
});
process.exit();
