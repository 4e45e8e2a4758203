import { Code, ConnectError, createClient, createRouterTransport } from '@connectrpc/connect';
import { describe, expect, test } from 'vitest';
import { GpuaasError } from '../../kit/error.ts';
import { SystemService } from '../../proto/gen/gpuaas/system/v1/system_pb.ts';
import { ownChecks } from './own-checks.ts';

const answering = (getHealth: () => object) =>
	createClient(
		SystemService,
		createRouterTransport(({ service }) => service(SystemService, { getHealth })),
	);

describe('what the control plane finds of itself', () => {
	test('is shown check by check, with what to do', async () => {
		const found = await ownChecks(
			answering(() => ({
				checks: [
					{ name: 'store', ok: true, message: 'it commits' },
					{ name: 'clock', ok: false, message: 'it is ahead' },
					{ name: 'disk', ok: true, message: 'nearly full', toSeeTo: 'disk' },
				],
			})),
		);
		expect(found.map(({ check, result }) => `${check} ${result}`)).toEqual([
			'server store ok',
			'server clock fail',
			'server disk warn',
		]);
	});

	test('is nothing that a tenant may see, and nothing that is wrong', async () => {
		const refusing = answering(() => {
			throw new ConnectError('no', Code.PermissionDenied);
		});
		const client = { getHealth: () => refusing.getHealth({}).catch(denied) } as unknown as typeof refusing;
		expect(await ownChecks(client)).toEqual([]);
	});

	test('that cannot be asked for is a failure', async () => {
		const client = answering(() => {
			throw new ConnectError('gone', Code.Unavailable);
		});
		await expect(ownChecks(client)).rejects.toThrow();
	});
});

/** As the command's client converts it. */
function denied(error: unknown): never {
	expect(ConnectError.from(error).code).toBe(Code.PermissionDenied);
	throw new GpuaasError({ code: 'PERMISSION_DENIED', reason: 'PERMISSION_DENIED', message: 'no' });
}
