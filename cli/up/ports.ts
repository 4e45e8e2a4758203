import { createServer } from 'node:net';

/** The four listeners of a control plane. */
export interface Ports {
	readonly api: number;
	readonly gateway: number;
	readonly enroll: number;
	readonly ops: number;
}

export const PORT_NAMES = ['api', 'gateway', 'enroll', 'ops'] as const;

/** Free ports of the loopback for the names that have none yet; all are held until all are known, so none is twice. */
export async function completePorts(chosen: Partial<Ports>): Promise<Ports> {
	const servers: { close(): void }[] = [];
	try {
		const ports: Record<string, number> = {};
		for (const name of PORT_NAMES) {
			const wanted = chosen[name];
			if (wanted !== undefined) ports[name] = wanted;
			else {
				const { port, server } = await listenAnywhere();
				servers.push(server);
				ports[name] = port;
			}
		}
		return ports as unknown as Ports;
	} finally {
		for (const server of servers) server.close();
	}
}

/** Whether the loopback port can be bound now. */
export async function isFree(port: number): Promise<boolean> {
	try {
		const { server } = await listenAnywhere(port);
		server.close();
		return true;
	} catch {
		return false;
	}
}

function listenAnywhere(port = 0): Promise<{ port: number; server: ReturnType<typeof createServer> }> {
	return new Promise((resolve, reject) => {
		const server = createServer();
		server.once('error', reject);
		server.listen({ host: '127.0.0.1', port, exclusive: true }, () => {
			const address = server.address();
			if (address === null || typeof address === 'string') reject(new Error('no port'));
			else resolve({ port: address.port, server });
		});
	});
}
