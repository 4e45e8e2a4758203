import { readFile, rm } from 'node:fs/promises';
import { arch, cpus, totalmem } from 'node:os';
import type { Clock } from '../kit/clock.ts';
import { GpuaasError, messageOf } from '../kit/error.ts';
import type { Rng } from '../kit/ids.ts';
import type { Logger } from '../kit/log.ts';
import type { AgentConfig } from './config.ts';
import { alreadyEnrolled, enroll } from './identity/enroll.ts';
import { loadIdentity, type StoredIdentity } from './identity/stored-identity.ts';
import type { PlatformFacts } from './platform/facts.ts';
import { foldersOf } from './settings.ts';

/** The identity that is on disk, or a new one with the join token that the configuration points to. */
export interface IdentifyDeps {
	readonly config: AgentConfig;
	readonly facts: PlatformFacts;
	readonly version: string;
	readonly clock: Clock;
	readonly rng: Rng;
	readonly log: Logger;
}

export function hardwareFacts(facts: PlatformFacts) {
	return {
		hostname: facts.hostname,
		serial: facts.serial,
		bootId: facts.bootId,
		architecture: arch(),
		cpus: cpus().length,
		memoryBytes: BigInt(totalmem()),
	};
}

export async function identify(deps: IdentifyDeps): Promise<StoredIdentity> {
	const { config, rng } = deps;
	const present = loadIdentity(foldersOf(config).identity, rng);
	return present ?? (await enrollByToken(deps));
}

/** Reads the token, enrolls, and removes the file: it is of no further use, and nobody should find it. */
export async function enrollByToken(deps: IdentifyDeps): Promise<StoredIdentity> {
	const { config, facts, version, clock, rng, log } = deps;
	const path = config.enroll.tokenFile;
	if (path === undefined) {
		throw new GpuaasError({
			code: 'FAILED_PRECONDITION',
			reason: 'TOKEN_INVALID',
			message:
				'this host has no identity yet; get a token (gpuaas token create), put it in a file, and set [enroll] token_file',
		});
	}
	const { identity: directory } = foldersOf(config);
	// Before the token: it may be gone, because it was used.
	const present = loadIdentity(directory, rng);
	if (present !== undefined) throw alreadyEnrolled(present);
	const identity = await enroll({
		directory,
		token: await readToken(path),
		addresses: [config.enroll.address],
		facts: hardwareFacts(facts),
		agentVersion: version,
		clock,
		rng,
		log,
	});
	await rm(path, { force: true });
	return identity;
}

async function readToken(path: string): Promise<string> {
	try {
		return (await readFile(path, 'utf8')).trim();
	} catch (error) {
		throw new GpuaasError({
			code: 'FAILED_PRECONDITION',
			reason: 'TOKEN_INVALID',
			message: `the join token can't be read: ${messageOf(error)}; get one with gpuaas token create`,
		});
	}
}
