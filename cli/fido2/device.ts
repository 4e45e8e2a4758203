import type { Io } from '../io.ts';
import { runFido2, securityKeyUnavailable } from './program.ts';

/** The path of the one security key that is plugged in, or of the wanted one. Throws SECURITY_KEY_UNAVAILABLE. */
export async function findDevice(io: Io, wanted: string | undefined): Promise<string> {
	if (wanted !== undefined) {
		// The programs take it as an argument: it must not read as one of their options.
		if (wanted === '' || wanted.startsWith('-')) throw securityKeyUnavailable(`${JSON.stringify(wanted)} is no device`);
		return wanted;
	}
	const listed = await runFido2(io, 'fido2-token', ['-L'], '');
	const devices = listed.split('\n').flatMap((line) => /^(.+?): vendor=0x/.exec(line)?.[1] ?? []);
	const [device] = devices;
	if (device === undefined)
		throw securityKeyUnavailable(
			'none is plugged in, or this user may not read it (the package libfido2-1 has the rules for that); plug it in and try again',
		);
	if (devices.length > 1)
		throw securityKeyUnavailable(`several are plugged in; choose with --device: ${devices.join(', ')}`);
	return device;
}
