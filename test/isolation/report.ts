import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { toBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { listMethods, nameOf, policyOf, readContract } from '../architecture/contract.ts';
import { ROOT } from '../architecture/sources.ts';
import type { CaseResult } from './calls.ts';
import { exemptionOf } from './exempt.ts';
import type { Mode } from './modes.ts';
import { STRANGERS } from './strangers.ts';

/**
 * What is said about a run: for machines, with the contract and the program that it was about, so that it can become
 * evidence; and in a few lines for people. Nothing in it is of a customer.
 */
export interface IsolationReport {
	readonly schema: 'gpuaas.isolation/v1';
	readonly at: string;
	/** Of the contract's descriptors: another contract needs another run. */
	readonly contractSha256: string;
	readonly version: string;
	/** Empty outside of a work tree; `+` at its end: with changes that no commit has. */
	readonly commit: string;
	/** Real servers and databases, on this machine. */
	readonly environment: { readonly node: string; readonly platform: string; readonly simulated: false };
	readonly passed: number;
	readonly failed: number;
	/** Strangers whom a mode can't hold; its results say why. */
	readonly omitted: number;
	/** Who tried, in every mode but where one is omitted. */
	readonly strangers: readonly string[];
	readonly exempt: readonly { readonly rpc: string; readonly why: string }[];
	readonly modes: readonly (Mode & { readonly results: readonly CaseResult[] })[];
}

export async function reportOf(modes: IsolationReport['modes'], atMs: number): Promise<IsolationReport> {
	const contract = await readContract();
	const hash = createHash('sha256');
	for (const { proto } of contract) hash.update(toBinary(FileDescriptorProtoSchema, proto));
	const results = modes.flatMap(({ results: all }) => all);
	const count = (of: CaseResult['outcome']) => results.filter(({ outcome }) => outcome === of).length;
	const exempt = listMethods(contract).flatMap((method) => {
		const policy = policyOf(method);
		const why = policy === undefined ? undefined : exemptionOf(method, policy);
		return why === undefined ? [] : [{ rpc: nameOf(method), why }];
	});
	return {
		schema: 'gpuaas.isolation/v1',
		at: new Date(atMs).toISOString(),
		contractSha256: hash.digest('hex'),
		version: (JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string }).version,
		commit: commit(),
		environment: { node: process.version, platform: `${process.platform} ${process.arch}`, simulated: false },
		passed: count('pass'),
		failed: count('fail'),
		omitted: count('omitted'),
		strangers: ['the owner of another organization', ...STRANGERS],
		exempt,
		modes,
	};
}

function commit(): string {
	const git = (...args: readonly string[]) =>
		execFileSync('git', args, { cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
	try {
		return `${git('rev-parse', 'HEAD')}${git('status', '--porcelain', '--untracked-files=no') === '' ? '' : '+'}`;
	} catch {
		return '';
	}
}

const SHOWN_MAX = 20;

export function summary({ modes, exempt, contractSha256, strangers }: IsolationReport): string {
	const lines = modes.map(({ name, results }) => {
		const failed = results.filter(({ outcome }) => outcome === 'fail').length;
		const rpcs = new Set(results.map(({ rpc }) => rpc)).size;
		const mark = failed === 0 ? 'ok  ' : 'FAIL';
		const omitted = results.filter(({ outcome }) => outcome === 'omitted');
		const not = omitted.map((result) => `      not here: ${result.case.replace(/^by /, '')} (${result.detail})`);
		const cases = results.length - omitted.length;
		return [`${mark}  ${name.padEnd(34)} ${rpcs} RPCs, ${cases} cases, ${failed} failed`, ...not].join('\n');
	});
	const failures = modes.flatMap(({ name, results }) =>
		results
			.filter(({ outcome }) => outcome === 'fail')
			.map((result) => `      ${name}: ${result.rpc} ${result.case}: ${result.detail}`),
	);
	const more = failures.length > SHOWN_MAX ? [`      and ${failures.length - SHOWN_MAX} more`] : [];
	const about = `      contract ${contractSha256.slice(0, 16)}; ${exempt.length} RPCs name nothing of a tenant and say why`;
	const who = `      strangers: ${strangers.join('; ')}`;
	return `${[...lines, ...failures.slice(0, SHOWN_MAX), ...more, about, who].join('\n')}\n`;
}
