import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { tool } from '../tools.ts';

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, '../..');
const CACHE = join(ROOT, 'test/.cache/python-grpc');
/** Pinned: another version is another folder. */
const PACKAGES = ['grpcio==1.74.0', 'grpcio-tools==1.74.0'];
const DONE = join(CACHE, `${PACKAGES.join('_')}.done`);

/** Python's gRPC in a virtual environment of its own, installed once. The path of its interpreter. */
export async function pythonWithGrpc(): Promise<string> {
	const python = join(CACHE, 'bin/python');
	if (existsSync(DONE)) return python;
	rmSync(CACHE, { recursive: true, force: true });
	mkdirSync(CACHE, { recursive: true });
	await run(tool('python3'), ['-m', 'venv', CACHE]);
	await run(python, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', ...PACKAGES]);
	writeFileSync(DONE, '');
	return python;
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
