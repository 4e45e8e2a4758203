import { systemClock } from '../../kit/clock.ts';
import { messageOf } from '../../kit/error.ts';
import { collectPart } from './bundle-parts.ts';
import { BUNDLE_PARTS, type BundlePart } from './policy.ts';
import { tarEnd, tarMember } from './tar.ts';

/**
 * The program behind `collect_bundle`: started by the process host like any task, as the account that the policy
 * names, with its own time limit and output cap. Arguments: parts. Standard input: the agent's own newest log lines, for
 * the part `agent`. A tar stream on standard output.
 */
async function main(parts: readonly string[]): Promise<void> {
	for (const part of parts) {
		if (!isPart(part)) throw new RangeError(`no such part: ${part}`);
		for await (const { name, text } of collectPart(part))
			await write(tarMember(name, Buffer.from(text), systemClock.now()));
	}
	await write(tarEnd());
}

function isPart(text: string): text is BundlePart {
	return (BUNDLE_PARTS as readonly string[]).includes(text);
}

function write(bytes: Uint8Array): Promise<void> {
	return new Promise((resolve, reject) => {
		process.stdout.write(bytes, (error) => (error ? reject(error) : resolve()));
	});
}

main(process.argv.slice(2)).catch((error: unknown) => {
	process.stderr.write(`the bundle could not be collected: ${messageOf(error)}\n`);
	process.exitCode = 1;
});
