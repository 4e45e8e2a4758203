import { execFile } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { pythonWith } from './python-packages.ts';

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, '../..');

/** Python's gRPC in a virtual environment of its own, installed once. The path of its interpreter. */
export function pythonWithGrpc(): Promise<string> {
	return pythonWith('python-grpc', ['grpcio==1.74.0', 'grpcio-tools==1.74.0']);
}

/** Client code for all protos, made anew by Google's own compiler. */
export async function generatePython(python: string, out: string): Promise<void> {
	mkdirSync(out, { recursive: true });
	const proto = join(ROOT, 'proto');
	const vendor = join(proto, 'vendor');
	const { stdout } = await run('find', [join(proto, 'gpuaas'), vendor, '-name', '*.proto']);
	const files = stdout.trim().split('\n');
	// The longer root first: a file is named after the first root that it is under.
	const paths = [`-I${vendor}`, `-I${proto}`, `--python_out=${out}`, `--grpc_python_out=${out}`];
	await run(python, ['-m', 'grpc_tools.protoc', ...paths, ...files]);
}
