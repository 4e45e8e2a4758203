import type { ConfigOf, Schema } from '../kit/config.ts';
import { bool, bytes, duration, int, list, oneOf, optional, path, string } from '../kit/config-fields.ts';
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
		trustedProxies: list({
			doc: 'Networks of proxies whose X-Forwarded-For is believed: it then decides the address of callers.',
			default: [],
			itemsMax: 64,
			pattern: /^[0-9a-fA-F.:]+\/\d{1,3}$/,
			expects: 'networks such as 10.0.0.0/8',
		}),
		names: list({
			doc: 'Host names and addresses that clients use, beside localhost: they go into its certificate.',
			default: [],
		}),
	},
	edge: {
		kind: oneOf(['none', 'pomerium', 'cloudflare'], {
			doc: 'The access proxy in front of the API, whose assertion every request must carry.',
			default: 'none',
		}),
		issuer: string({
			doc: 'iss of its assertions: the host that Pomerium serves, or https://TEAM.cloudflareaccess.com.',
			default: '',
		}),
		audience: string({ doc: 'aud of its assertions: our host, or the AUD tag of the application.', default: '' }),
		jwksUrl: string({
			doc: 'Its keys: https://HOST/.well-known/pomerium/jwks.json, or .../cdn-cgi/access/certs.',
			default: '',
			pattern: /^(|https:\/\/\S+|http:\/\/127\.0\.0\.1(:\d+)?\/\S*)$/,
			expects: 'an https address',
		}),
		clockSkewMaxMs: duration({ doc: 'How far its clock may be off.', default: 30_000, min: 0, max: 120_000 }),
	},
	oidc: {
		issuers: list({
			doc: 'OpenID issuers whose logins are taken, exactly as their discovery documents name them; empty: API keys only.',
			default: [],
			itemsMax: 8,
			pattern: /^(https:\/\/[^\s?#]+|http:\/\/(127\.0\.0\.1|localhost|\[::1\])(:\d+)?(\/[^\s?#]*)?)$/,
			expects: 'https addresses (http on loopback)',
		}),
		audience: string({ doc: 'What the audience of an access token must contain.', default: 'gpuaas', pattern: /./ }),
		cliClient: string({
			doc: 'Public client that the command line logs in with.',
			default: 'gpuaas-cli',
			pattern: /./,
		}),
		clients: list({
			doc: 'Clients whose access tokens are taken (azp); add a console or an SDK of yours.',
			default: ['gpuaas-cli', 'gpuaas-console'],
			itemsMax: 32,
		}),
		algorithms: list({
			doc: 'Signature algorithms that are taken; asymmetric ones only.',
			default: ['ES256', 'EdDSA', 'PS256', 'RS256'],
			pattern: /^(ES256|ES384|EdDSA|PS256|RS256)$/,
			expects: 'ES256, ES384, EdDSA, PS256 or RS256',
		}),
		tokenLifetimeMaxMs: duration({
			doc: 'Longest life of an access token: how long a stolen one can be good.',
			default: 600_000,
			min: 60_000,
			max: 3_600_000,
		}),
		clockSkewMaxMs: duration({
			doc: 'How far the clock of a provider may be off.',
			default: 30_000,
			min: 0,
			max: 120_000,
		}),
		consoleUrl: optional(
			string({
				doc: 'Address at which browsers see this API, https://HOST[:PORT]: turns on browser sessions (/auth/...).',
				pattern: /^https:\/\/[^/\s?#]+$/,
				expects: 'https://HOST[:PORT]',
			}),
		),
		consoleClient: string({ doc: 'Confidential client of browser sessions.', default: 'gpuaas-console', pattern: /./ }),
		consoleSecretFile: optional(path({ doc: 'File of mode 0600 with the secret of that client.' })),
		directoryClient: optional(
			string({
				doc: 'Confidential client that may view the users of a Keycloak realm: turns on that who is disabled there is locked here.',
				pattern: /./,
			}),
		),
		directorySecretFile: optional(path({ doc: 'File of mode 0600 with the secret of that client.' })),
		scimUrl: optional(
			string({
				doc: 'SCIM 2.0 base address of a provider that is no Keycloak: who is not active there is locked here.',
				pattern: /^(https:\/\/|http:\/\/127\.0\.0\.1[:/])[^\s?#]+[^\s?#/]$/,
				expects: 'https://HOST/PATH without a slash at its end',
			}),
		),
		scimTokenFile: optional(path({ doc: 'File of mode 0600 with the bearer token that reads its users.' })),
		scimIssuer: optional(string({ doc: 'Which issuer it is the directory of (default: the first).', pattern: /./ })),
		scimSubject: oneOf(['externalId', 'id', 'userName'], {
			doc: 'The attribute of its users that holds the subject (sub) of their tokens.',
			default: 'externalId',
		}),
		expectedKeyIds: list({
			doc: 'Key ids that the providers may publish; any other is an alert. Empty: only a change without overlap is.',
			default: [],
			itemsMax: 64,
		}),
		stepUpAcr: list({
			doc: 'acr values that count as a second factor, the one to ask for first.',
			default: ['urn:gpuaas:acr:otp'],
			itemsMax: 16,
		}),
		stepUpMaxAgeMs: duration({
			doc: 'How recent a login must be for a sensitive call.',
			default: 300_000,
			min: 30_000,
			max: 3_600_000,
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
		nodeLabels: list({
			doc: 'Labels of nodes that service discovery shows (rack, cluster); others may name customers.',
			default: [],
			pattern: /^[a-zA-Z0-9._/-]{1,63}$/,
			expects: 'names of node labels',
		}),
		hostnameLabel: oneOf(['Hostname', 'hostname'], {
			doc: 'How the label with the host name is spelt on series with the names of dcgm-exporter; it changed after 4.8.',
			default: 'Hostname',
		}),
	},
	audit: {
		headsFile: optional(
			path({
				doc: 'Where signed audit heads go; put it on another disk. Absent: audit-heads.jsonl in the data folder.',
			}),
		),
	},
	export: {
		remoteWriteUrl: optional(
			string({
				doc: 'Where telemetry is pushed by Prometheus remote write 1.0; absent: nowhere.',
				pattern: /^https?:\/\/\S+$/,
				expects: 'an http or https URL',
				secret: true,
			}),
		),
		remoteWriteTokenFile: optional(path({ doc: 'File with the bearer token for it.' })),
		otlpUrl: optional(
			string({
				doc: 'Where telemetry is pushed by OTLP/HTTP (…/v1/metrics); absent: nowhere.',
				pattern: /^https?:\/\/\S+$/,
				expects: 'an http or https URL',
				secret: true,
			}),
		),
		otlpTokenFile: optional(path({ doc: 'File with the bearer token for it.' })),
		names: list({
			doc: 'Which names pushed series have: gpuaas, dcgm, or both.',
			default: ['gpuaas', 'dcgm'],
			pattern: /^(gpuaas|dcgm)$/,
			expects: 'gpuaas or dcgm',
		}),
		queueMaxBytes: bytes({
			doc: 'Disk for what waits to be pushed, each receiver; past it the oldest goes.',
			default: 512 * 1024 ** 2,
			min: 16 * 1024 ** 2,
			max: 1024 ** 4,
		}),
	},
	telemetry: {
		historyRetentionMs: duration({
			doc: 'How long 1-minute rollups are kept; beyond it your Prometheus is the history.',
			default: 72 * 3_600_000,
			min: 3_600_000,
			max: 31 * 24 * 3_600_000,
		}),
		historyMaxBytes: bytes({
			doc: 'Size of the file with rollups; 10,000 nodes of 8 GPUs need about 4 GB a day.',
			default: 16 * 1024 ** 3,
			min: 16 * 1024 ** 2,
			max: 1024 ** 4,
		}),
	},
	health: {
		policyFile: optional(
			path({ doc: 'Health policy (JSON, from gpuaas health policy show --json); absent: the one that ships.' }),
		),
		fleetLabel: string({
			doc: 'Node label whose value names the fleet whose overrides in the policy count.',
			default: 'gpuaas.fleet',
			pattern: /^[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?$/,
			expects: 'the key of a node label',
		}),
		quarantinePercent: int({
			doc: 'Of the GPU nodes, how many may be in quarantine at once; past it none goes there by itself.',
			default: 20,
			min: 1,
			max: 100,
			unit: '%',
		}),
		quarantineNodes: int({ doc: 'The same as a number of nodes.', default: 64, min: 1, max: 100_000 }),
		quarantineDomainLabel: string({
			doc: 'Node label whose value names a fault domain (a rack, a zone) with a circuit breaker of its own; empty: none.',
			default: 'gpuaas.fault-domain',
			pattern: /^([a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?)?$/,
			expects: 'the key of a node label, or nothing',
		}),
		quarantineDomainPercent: int({
			doc: 'Of the GPU nodes of one fault domain, how many may be in quarantine at once; one always may.',
			default: 50,
			min: 1,
			max: 100,
		}),
		quarantineAttempts: int({
			doc: 'Quarantines of a node within a week after which only a repair brings it back.',
			default: 3,
			min: 1,
			max: 15,
		}),
	},
	ca: {
		selfRotation: bool({
			doc: 'Whether the issuing CAs are rotated without a person; false: health warns, and somebody takes each step.',
			default: true,
		}),
		rotateBeforeMs: duration({
			doc: 'Remaining life of the issuing CAs, of 90 days, at which their rotation begins.',
			default: 30 * 24 * 3_600_000,
			min: 7 * 24 * 3_600_000,
			max: 60 * 24 * 3_600_000,
		}),
	},
	recordings: {
		mode: oneOf(['best_effort', 'fail_closed', 'off'], {
			doc: 'Whether terminals are recorded; fail_closed: none is open without a recording, nor a command without a terminal (exec without -t), which has none.',
			default: 'best_effort',
		}),
		unrecordedExec: bool({
			doc: 'Whether fail_closed lets commands without a terminal run, unrecorded: pipes, and whoever starts a shell by one.',
			default: false,
		}),
		input: bool({
			doc: 'Whether typed text is recorded apart from the output, where the terminal showed it.',
			default: false,
		}),
		maxBytes: bytes({
			doc: 'The most that is kept of one recording.',
			default: 1024 ** 3,
			min: 1024 ** 2,
			max: 1024 ** 4,
		}),
		freeFloorBytes: bytes({
			doc: 'No recording begins or goes on below this much free disk.',
			default: 256 * 1024 * 1024,
			min: 0,
			max: 1024 ** 5,
		}),
		retentionMs: duration({
			doc: 'Recordings lose their content this long after they ended, unless held; row and manifest stay.',
			default: 365 * 24 * 3_600_000,
			min: 3_600_000,
			max: 3650 * 24 * 3_600_000,
		}),
	},
	terminals: {
		graceMs: duration({
			doc: 'How long a terminal goes on with nobody attached.',
			default: 4 * 3_600_000,
			min: 1000,
			max: 30 * 24 * 3_600_000,
		}),
		idleMs: duration({
			doc: 'A terminal without input for this long is ended; 0: never.',
			default: 0,
			min: 0,
			max: 30 * 24 * 3_600_000,
		}),
		openPerPersonMax: int({
			doc: 'Terminals, commands, copies and forwards that one person or service account may have open on the nodes of one organization; a node takes 256 of all people.',
			default: 128,
			min: 1,
			max: 100_000,
		}),
		lengthMaxMs: duration({
			doc: 'The longest that a terminal may be open.',
			default: 7 * 24 * 3_600_000,
			min: 1000,
			max: 365 * 24 * 3_600_000,
		}),
		forwardNever: list({
			doc: 'Networks that no port forward of any node leads to, whatever its policy lists: those of provisioning and BMCs.',
			default: [],
			itemsMax: 256,
			pattern: /^[0-9a-fA-F.:/]+$/,
			expects: 'networks in CIDR form',
		}),
		purposeRequired: bool({ doc: 'Whether whoever opens a terminal must say what for.', default: false }),
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
