import { Socket } from 'node:net';
import { receiveTree } from '../../channel/copy-receiver.ts';
import { type CopyProgress, sendTree } from '../../channel/copy-sender.ts';
import { streamPipe } from '../../channel/pipe.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { GpuaasError, messageOf } from '../../kit/error.ts';
import { processIdentity } from '../../kit/process-identity.ts';
import { decodeFileTask } from './file-task.ts';

/**
 * The node's end of a copy: started for one copy as the account that asked, in its cgroup, with the one argument that says
 * what was granted (file-task.ts). It opens nothing else, in no other direction, and the kernel decides what the account
 * may read and write; so no link leads further than its owner's rights. Frames on standard input and output, a sentence
 * on standard error when it fails. Exit code 0 when all was copied, 1 otherwise.
 */
async function main(argument: string): Promise<void> {
	const task = decodeFileTask(argument);
	// process.stdout blocks the whole process while a pipe is full; a socket on the same descriptor waits aside.
	const output = new Socket({ fd: 1, readable: false, writable: true });
	const pipe = streamPipe(process.stdin, output);
	const nothing = (_: CopyProgress) => {};
	if (task.access === 'read') await sendTree(pipe, task, nothing);
	else {
		const owner = present(processIdentity(process.pid), '/proc shows this process');
		await receiveTree(pipe, { ...task, owner, clock: systemClock, asked: undefined }, nothing);
	}
	await new Promise<void>((resolve) => output.end(resolve));
}

main(process.argv[2] ?? '').then(
	() => process.exit(0),
	(error: unknown) => {
		process.stderr.write(`${error instanceof GpuaasError ? error.message : messageOf(error)}\n`);
		process.exit(1);
	},
);
