import type { ChannelEnd } from '../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';
import { EXIT } from '../exit-codes.ts';

/** The first two as shells say them; of all of them nothing was ever started. */
const NOT_RUN: Readonly<Record<string, number>> = {
	COMMAND_NOT_FOUND: 127,
	COMMAND_NOT_EXECUTABLE: 126,
	CWD_MISSING: EXIT.channelFailed,
	USER_UNKNOWN: EXIT.channelFailed,
	SHELL_MISSING: EXIT.channelFailed,
	SPAWN_FAILED: EXIT.channelFailed,
	TOO_MANY_TERMINALS: EXIT.channelFailed,
	DEVICE_ISOLATION_UNAVAILABLE: EXIT.channelFailed,
	POLICY_TERMINAL: EXIT.channelFailed,
	POLICY_USER: EXIT.channelFailed,
	POLICY_SHELL: EXIT.channelFailed,
	POLICY_BINARY: EXIT.channelFailed,
};

/** What a shell would exit with; why, where the program didn't end by itself. */
export function outcomeOf(nodeName: string, end: ChannelEnd): { readonly code: number; readonly said: string } {
	if (end.reason === 'TERMINAL_EXITED') {
		const code = end.signal === undefined ? (end.exitCode ?? EXIT.ok) : EXIT.signalBase + end.signal;
		return { code, said: end.message };
	}
	const why = end.message === '' ? end.reason : end.message;
	const notRun = NOT_RUN[end.reason];
	const what = notRun === undefined ? `the terminal on ${nodeName} was ended` : `not run on ${nodeName}`;
	return { code: notRun ?? EXIT.channelFailed, said: `${what}: ${why}` };
}

/** The lines of `--json`, in the words of tasks (task-stream.ts): bytes in base64, because output need not be text. */
export function outputEvent(terminalId: string, stream: 'stdout' | 'stderr', data: Uint8Array) {
	return { event: 'output', terminalId, stream, base64: Buffer.from(data).toString('base64') };
}

/** The last: `exitCode` is what the command itself ends with, `signal` what ended the program. */
export function endedEvent(terminalId: string, exitCode: number, { signal, reason, message }: ChannelEnd) {
	return { event: 'ended', terminalId, exitCode, ...(signal === undefined ? {} : { signal }), reason, message };
}
