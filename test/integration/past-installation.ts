import { readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { IdentityFolder, STATE_FORMAT } from '../../agent/identity/state-file.ts';
import { storedCredential, toBase64 } from '../../agent/identity/stored-identity.ts';
import { storePorts } from '../../cli/up/data-folder.ts';
import type { Ports } from '../../cli/up/ports.ts';
import { fillPendingSlot, issueToNode } from '../../control-plane/app/enrollment/issue.ts';
import { promote } from '../../control-plane/app/enrollment/promote.ts';
import { systemContext } from '../../control-plane/context.ts';
import { openApp } from '../../control-plane/open-app.ts';
import { loadSettings } from '../../control-plane/settings.ts';
import { type Clock, systemClock } from '../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { Scope } from '../../kit/scope.ts';
import { generateNodeKey } from '../../pki/keys/node-key.ts';
import { createCsr } from '../../pki/x509/csr.ts';
import { nodeRow } from '../contract/store/rows.ts';
import { freePort } from '../free-port.ts';

/**
 * What `gpuaas up` left on disk so many days ago, when both sides were switched off: the control plane's data folder with
 * its real certificate authority, and one enrolled host beside it. Nobody can set the clock of OpenSSL, so it is not
 * today that lies ahead: the folders are from the past.
 */
export interface PastInstallation {
	readonly ports: Ports;
	readonly nodeId: string;
	readonly caPem: string;
	readonly operatorKey: string;
}

export const PAST_NODE = 'gpu-past';

export async function makePast(root: string, days: number): Promise<PastInstallation> {
	const shiftMs = days * 24 * 3_600_000;
	const clock: Clock = { ...systemClock, now: () => systemClock.now() - shiftMs };
	const data = join(root, 'control-plane');
	await mkdir(root, { recursive: true, mode: 0o700 });
	const ports = { api: await freePort(), gateway: await freePort(), enroll: await freePort(), ops: await freePort() };
	await storePorts(root, ports);
	const overrides = { 'core.data': data };
	const args = { configPath: undefined, overrides, printConfig: false, json: false, positionals: [] };
	const { values: config } = loadSettings(args, {});
	await using scope = new Scope((name, error) => {
		throw new Error(`${name} failed`, { cause: error });
	});
	const { deps } = await openApp({ config, version: '0.1.0', clock, rng: systemRng, log: silentLogger }, scope);
	const { store, authority, rng } = deps;
	const nowMs = clock.now();
	const nodeId = uuidv7(nowMs, rng);
	const key = generateNodeKey();
	const issue = await issueToNode(deps, { nodeId, generation: 1, renewalSeq: 1, csrDer: createCsr(key.signer) });
	const ctx = systemContext('test', clock, silentLogger, 'past');
	const node = nodeRow(nodeId, {
		...{ name: PAST_NODE, state: 'enrolling', enrolledAtMs: nowMs, renewalSeq: 1, bundleSeqAcked: 1 },
		...{ locked: false, lockReason: '', serial: '', labels: {} },
	});
	await store.unit(function* (tx) {
		yield* tx.nodes.insert(node);
		yield* fillPendingSlot(tx, issue);
		yield* promote(deps, tx, ctx, { node, pending: issue.row, eventId: uuidv7(nowMs, rng), nowMs });
	});
	const { chain, joinState } = issue;
	await mkdir(join(root, 'agent'), { mode: 0o700 });
	new IdentityFolder(join(root, 'agent', 'identity'), rng).writeState({
		format: STATE_FORMAT,
		nodeId,
		nodeName: PAST_NODE,
		generation: 1,
		trustDomain: authority.trustDomain,
		gateways: [`127.0.0.1:${ports.gateway}`],
		enrollAddresses: [`127.0.0.1:${ports.enroll}`],
		bundle: toBase64(authority.bundle().bytes),
		current: storedCredential({ chain, keyPem: key.privateKeyPem, joinState }),
		candidate: null,
	});
	const caPem = readFileSync(join(data, 'ca.pem'), 'utf8');
	const operatorKey = readFileSync(join(data, 'operator.key'), 'utf8').trim();
	return { ports, nodeId, caPem, operatorKey };
}
