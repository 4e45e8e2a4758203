import type { Client } from '@connectrpc/connect';
import { GpuaasError } from '../../kit/error.ts';
import { HealthCheckSchema, type SystemService } from '../../proto/gen/gpuaas/system/v1/system_pb.ts';
import { json } from '../show.ts';
import { bad, type Finding, ok } from './finding.ts';

/** How the control plane finds itself: store, certificates, clock, audit. Nothing for whoever may not see it. */
export async function ownChecks(system: Client<typeof SystemService>): Promise<Finding[]> {
	const health = await system.getHealth({}).catch((error: unknown) => {
		// Tenants may not see it, and nothing is wrong with that.
		if (GpuaasError.from(error).code === 'PERMISSION_DENIED') return undefined;
		throw error;
	});
	return (health?.checks ?? []).map((check) => {
		const { name, message } = json(HealthCheckSchema, check) as { name: string; message: string };
		if (!check.ok) return bad(`server ${name}`, 'fail', message, 'its log says more');
		return check.toSeeTo === ''
			? ok(`server ${name}`, message)
			: bad(`server ${name}`, 'warn', message, 'see to it while all is well');
	});
}
