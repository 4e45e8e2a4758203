import { create } from '@bufbuild/protobuf';
import { expect, it } from 'vitest';
import { GpuaasError } from '../../kit/error.ts';
import { systemRng } from '../../kit/ids.ts';
import { createLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { ConnectRequestSchema, UploadOutputRequestSchema } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { LINK_LIMITS_DEFAULT } from '../app/sessions/limits.ts';
import { SessionRegistry } from '../app/sessions/registry.ts';
import { AgentLink } from './link.ts';
import type { LinkDeps } from './link-deps.ts';
import { OutputUploads } from './output.ts';
import type { ServerStream } from './stream.ts';

/** What agents bring about again and again must not fill the disk that the log is on. */
const NODE = '0198a1b2-0000-7000-8000-000000000001';
const TASK = '0198a1b2-0000-7000-8000-000000000002';

function gateway(authorized: object) {
	const clock = new VirtualClock();
	const lines: Record<string, unknown>[] = [];
	const log = createLogger({
		name: 'test',
		clock,
		destination: { write: (line) => void lines.push(JSON.parse(line)) },
	});
	const app = {
		clock,
		rng: systemRng,
		log,
		heads: { witness: () => {} },
		limits: { hellosPerSecondMax: 1_000_000, leaseTtlFloorMs: 45_000 },
	};
	const deps = {
		app,
		registry: new SessionRegistry(),
		limits: LINK_LIMITS_DEFAULT,
		authorizeStream: async () => authorized,
		openUpload: async () => {
			throw new GpuaasError({ code: 'RESOURCE_EXHAUSTED', reason: 'DISK_FULL', message: 'no room for output' });
		},
	} as unknown as LinkDeps;
	return { clock, lines, deps };
}

/** The code of its end. */
function stream(): ServerStream<never> & { readonly ended: Promise<string> } {
	const { promise: ended, resolve } = Promise.withResolvers<string>();
	const idle = { send: () => true, pause: () => {}, resume: () => {}, destroy: () => {} };
	return { peer: '192.0.2.1:1', leafDer: new Uint8Array(), ...idle, end: ({ code }) => resolve(code), ended };
}

it('counts uploads that a full disk fails, past the first few', async () => {
	const { clock, lines, deps } = gateway({ kind: 'accepted', nodeId: NODE, serial: '1', notAfterMs: 1e15 });
	const uploads = new OutputUploads(deps);
	const fail = async () => {
		const failing = stream();
		const listener = uploads.accept(failing);
		const hello = { taskId: TASK, attempt: 1, fencingToken: 1n };
		listener.onFrame(create(UploadOutputRequestSchema, { message: { case: 'hello', value: hello } }));
		expect(await failing.ended).toBe('RESOURCE_EXHAUSTED');
	};
	for (let upload = 0; upload < 100; upload += 1) await fail();
	expect(lines).toHaveLength(20);
	expect(lines[0]).toMatchObject({ level: 'warn', message: 'upload failed', peer: '192.0.2.1:1', node: NODE });
	clock.advance(60_000);
	await fail();
	expect(lines.slice(20)).toMatchObject([{ message: 'upload failed', leftOut: 80 }]);
});

it('counts agents that are refused at their streams, past the first few', async () => {
	const refused = { kind: 'refused', reason: 'CERTIFICATE_REVOKED', closeCode: 1, message: 'revoked', nodeId: NODE };
	const { lines, deps } = gateway(refused);
	const link = new AgentLink(deps);
	for (let connects = 0; connects < 100; connects += 1) {
		const refusing = stream();
		const listener = link.accept(refusing);
		const hello = { nodeId: NODE, generation: 1, instanceId: 'one' };
		listener.onFrame(create(ConnectRequestSchema, { message: { case: 'hello', value: hello } }));
		await refusing.ended;
	}
	expect(lines.filter(({ message }) => message === 'agent stream refused')).toHaveLength(20);
	expect(lines).toHaveLength(20);
	expect(lines[0]).toMatchObject({ node: NODE, reason: 'CERTIFICATE_REVOKED' });
});
