import { GpuaasError } from '../../../kit/error.ts';
import type { TerminalRow } from '../../store/port/terminals.ts';
import type { AppLimits } from '../deps.ts';

/**
 * Where nothing is open without a recording: a command without a terminal is not recorded, and may be a shell all the same
 * (`script -qfc bash`). Copies and forwards are none. Returns RECORDING_REQUIRED, or undefined.
 */
export function refusedUnrecorded(
	{ execRecordedOnly }: Pick<AppLimits, 'execRecordedOnly'>,
	{ kind, tty }: Pick<TerminalRow, 'kind' | 'tty'>,
): GpuaasError | undefined {
	if (!execRecordedOnly || kind !== 'exec' || tty) return undefined;
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'RECORDING_REQUIRED',
		message:
			'nothing is open here without a recording, and a command without a terminal has none; give it one with -t (--tty), or gpuaas run it as a task. Whoever runs this control plane may allow it: [recordings] unrecorded_exec',
	});
}
