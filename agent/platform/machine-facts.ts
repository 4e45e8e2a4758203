import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { loaderArgs } from '../../kit/loader-args.ts';

/** The machine by its firmware, read by a child that ends (inventory-main.ts). */
export interface MachineFacts {
	readonly board: {
		readonly vendor: string;
		readonly product: string;
		readonly serial: string;
		readonly boardVendor: string;
		readonly boardProduct: string;
		readonly boardSerial: string;
		readonly biosVersion: string;
		readonly biosDate: string;
	};
	readonly cpu: { readonly model: string; readonly sockets: number; readonly cores: number; readonly threads: number };
	readonly memory: readonly {
		readonly slot: string;
		readonly bytes: number;
		readonly kind: string;
		readonly speedMts: number;
		readonly manufacturer: string;
		readonly partNumber: string;
		readonly serial: string;
	}[];
	readonly os: string;
}

const TIMEOUT_MS = 30_000;
const OUTPUT_BYTES_MAX = 1024 * 1024;

const mainPath = fileURLToPath(
	new URL(import.meta.url.endsWith('.ts') ? './inventory-main.ts' : './inventory-main.js', import.meta.url),
);

/** Undefined when the child fails or takes too long: the inventory then says that this is missing. */
export function readMachineFacts(): Promise<MachineFacts | undefined> {
	return new Promise((resolve) => {
		execFile(
			process.execPath,
			[...loaderArgs(), mainPath],
			{
				cwd: '/',
				env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
				timeout: TIMEOUT_MS,
				killSignal: 'SIGKILL',
				maxBuffer: OUTPUT_BYTES_MAX,
			},
			(error, stdout) => resolve(error === null ? parse(stdout) : undefined),
		).unref();
	});
}

function parse(stdout: string): MachineFacts | undefined {
	try {
		return JSON.parse(stdout) as MachineFacts;
	} catch {
		return undefined;
	}
}
