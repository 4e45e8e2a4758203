/**
 * How an agent and a host that outlived another agent agree on a version. The client offers the versions that it speaks,
 * newest first, each as a `hello` of its own on the same connection: version 1 refuses what it doesn't know and waits for
 * another, so a host of any age answers. A host speaks its own version and the one before; so does an agent. What runs in
 * a host is never ended for the sake of a version.
 *
 * From version 2 on a host says which release it is of, and takes `retire`: it ends itself when it has nothing left.
 */
import { GpuaasError } from '../../kit/error.ts';
import { ProtocolError } from './framing.ts';

/** One who speaks version N has N-1 beside it: a node is upgraded one release at a time. */
export const spokenVersions: readonly number[] = [2, 1];
/** The first one with `release` and `retire`. */
const SUCCESSION_VERSION = 2;

/** What a host answers to `hello`. */
export interface Greeting {
	readonly version: number;
	readonly instanceId: string;
	/** Of the package that it was started from; absent in version 1. */
	readonly release?: string;
}

/** The host's end. Throws ProtocolError for a version that it doesn't speak; the connection goes on. */
export function answerHello(
	version: unknown,
	host: { readonly instanceId: string; readonly release: string },
): Greeting {
	const spoken = spokenVersions.find((each) => each === version);
	if (spoken === undefined)
		throw new ProtocolError(
			`this host speaks version ${spokenVersions.join(' or ')}, not ${version}; end it when idle, and start a new one`,
		);
	const { instanceId, release } = host;
	return { version: spoken, instanceId, ...(spoken >= SUCCESSION_VERSION && { release }) };
}

/** The agent's end. Throws HOST_VERSION when the two have no version in common. */
export async function agreeOnVersion<G extends Greeting>(
	name: string,
	hello: (version: number) => Promise<G>,
): Promise<G> {
	let refusal: GpuaasError | undefined;
	for (const version of spokenVersions) {
		try {
			return await hello(version);
		} catch (error) {
			if (!(error instanceof GpuaasError) || error.code !== 'INVALID_ARGUMENT') throw error;
			refusal ??= error;
		}
	}
	throw new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'HOST_VERSION',
		message: `the ${name} is of a release that this agent can't talk to (${refusal?.message ?? 'no version in common'}). It and all that runs in it go on, and nothing new is started. Install the agent that started it, or one release at a time; or end what runs in it, then stop this process`,
		...(refusal === undefined ? {} : { cause: refusal }),
	});
}

/** Whether a host of this version can be asked to end itself when it has nothing left. */
export function takesRetire({ version }: Pick<Greeting, 'version'>): boolean {
	return version >= SUCCESSION_VERSION;
}
