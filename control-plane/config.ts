import type { ConfigOf, Schema } from '../kit/config.ts';
import { bytes, duration, int, list, oneOf, optional, path, string } from '../kit/config-fields.ts';
import { LOG_LEVELS } from '../kit/log.ts';

/**
 * Everything that an operator can set on a control plane. File sections and keys are in snake case; durations and sizes
 * carry their unit. `gpuaas control-plane serve --print-config` shows the effective values and where each came from.
 */
const HOST_PORT = /^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):\d{1,5}$/;

const portField = (doc: string, fallback: number) =>
	int({ doc, default: fallback, min: 0, max: 65_535, unit: 'port; 0 takes a free one' });
const hostField = (doc: string) =>
	string({ doc, default: '127.0.0.1', pattern: /^[0-9a-zA-Z.:-]+$/, expects: 'an address or host name' });

export const CONTROL_PLANE_SCHEMA = {
	core: {
		data: path({
			doc: 'Folder for keys, the SQLite store, output and audit heads. Private to the control plane.',
			default: '/var/lib/gpuaas/control-plane',
		}),
		trustDomain: string({
			doc: 'SPIFFE trust domain of this installation; cannot change after the first start.',
			default: 'gpuaas.internal',
			pattern: /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/,
			expects: 'a lower-case DNS name',
		}),
		replicaId: string({
			doc: 'Name of this process among replicas.',
			default: 'replica-1',
			pattern: /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/,
			expects: 'a DNS label',
		}),
		logLevel: oneOf(LOG_LEVELS, { doc: 'Least severe lines that are written.', default: 'info' }),
		environment: string({
			doc: 'Part of API keys, so that one of another environment is told apart.',
			default: 'dev',
			pattern: /^[a-z0-9]{1,8}$/,
			expects: '1 to 8 lower-case letters or digits',
		}),
	},
	store: {
		url: optional(
			string({
				doc: 'postgres://user@host/database, or a file path for SQLite; absent: control-plane.db in the data folder.',
				secret: true,
			}),
		),
	},
	api: {
		host: hostField('Address that the API listens on.'),
		port: portField('Port of the API.', 8443),
		names: list({
			doc: 'Host names and addresses that clients use, beside localhost: they go into its certificate.',
			default: [],
		}),
	},
	gateway: {
		host: hostField('Address that agents connect to.'),
		port: portField('Port of the gateway.', 9443),
		advertise: list({
			doc: 'host:port of all gateways as agents reach them; empty: host and port of this one.',
			default: [],
			pattern: HOST_PORT,
			expects: 'host:port items',
		}),
		hellosPerSecond: int({ doc: 'Agents admitted a second after an outage.', default: 300, min: 1, max: 100_000 }),
		leaseTtlFloorMs: duration({
			doc: 'Shortest lease; the fleet makes it longer.',
			default: 10_000,
			min: 1000,
			max: 600_000,
		}),
		lostGraceMs: duration({
			doc: 'After a start nobody is declared lost for this long.',
			default: 300_000,
			min: 1000,
			max: 3_600_000,
		}),
		certificateTtlMs: duration({
			doc: 'Life of a node certificate.',
			default: 24 * 3_600_000,
			min: 3_600_000,
			max: 24 * 3_600_000,
		}),
	},
	enroll: {
		host: hostField('Address of the enrollment listener; reachable wherever gateways are, never behind an L7 proxy.'),
		port: portField('Port of the enrollment listener.', 9444),
	},
	ops: {
		host: hostField('Address of health, metrics and discovery; anything but loopback needs a token file.'),
		port: portField('Port of the operations pages.', 9090),
		tokenFile: optional(path({ doc: 'File with the bearer token that monitoring must send.' })),
	},
	audit: {
		headsFile: optional(
			path({
				doc: 'Where signed audit heads go; put it on another disk. Absent: audit-heads.jsonl in the data folder.',
			}),
		),
	},
	output: {
		freeFloorBytes: bytes({
			doc: 'Task output is refused below this much free disk.',
			default: 256 * 1024 * 1024,
			min: 0,
			max: 1024 ** 4,
		}),
		retentionMs: duration({
			doc: 'Task output is deleted this long after its task ended; the task itself stays.',
			default: 30 * 24 * 3_600_000,
			min: 3_600_000,
			max: 3650 * 24 * 3_600_000,
		}),
	},
} as const satisfies Schema;

export type ControlPlaneConfig = ConfigOf<typeof CONTROL_PLANE_SCHEMA>;
