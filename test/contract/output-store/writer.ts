import { argv, stdout } from 'node:process';
import { FileOutputStore } from '../../../control-plane/adapters/object-store/file-output-store.ts';
import { GpuaasError } from '../../../kit/error.ts';

/** A process of its own that appends and syncs, and prints each durable offset, until it is killed or the disk is full. */
const [, , folder = '', taskId = ''] = argv;
const store = new FileOutputStore({ folder, freeBytesMin: 0 });
const data = Buffer.alloc(1000, 'z');
try {
	for (let offset = 0; ; offset += data.length) {
		await store.append(taskId, 1, [{ offset, stream: 'stdout', data, droppedBytes: 0 }], Number.MAX_SAFE_INTEGER);
		await store.sync(taskId, 1);
		stdout.write(`${offset + data.length}\n`);
	}
} catch (error) {
	stdout.write(`${GpuaasError.from(error).reason} ${await store.storedOffset(taskId, 1)}\n`);
}
