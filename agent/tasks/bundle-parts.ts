import { execFile } from 'node:child_process';
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { messageOf } from '../../kit/error.ts';
import { redactText } from '../../kit/redact.ts';
import type { BundlePart } from './policy.ts';

/**
 * What each part of a diagnostic bundle is made of. Runs as the account that the policy names, so it sees what that
 * account may see; what can't be read is named with its reason. Everything is bounded and passes through redaction.
 */
export const MEMBER_BYTES_MAX = 4 * 1024 * 1024;
const COMMAND_TIMEOUT_MS = 10_000;

export interface Member {
	readonly name: string;
	readonly text: string;
}

type Source = { readonly name: string } & (
	| { readonly file: string }
	| { readonly command: readonly [string, ...string[]] }
);

const SOURCES: Readonly<Record<Exclude<BundlePart, 'agent'>, readonly Source[]>> = {
	kernel: [
		{ name: 'dmesg.txt', command: ['dmesg', '--time-format', 'iso'] },
		{ name: 'version.txt', file: '/proc/version' },
		{ name: 'cmdline.txt', file: '/proc/cmdline' },
		{ name: 'modules.txt', file: '/proc/modules' },
	],
	processes: [
		{ name: 'ps.txt', command: ['ps', '-eo', 'pid,ppid,user,stat,etimes,rss,comm'] },
		{ name: 'meminfo.txt', file: '/proc/meminfo' },
		{ name: 'loadavg.txt', file: '/proc/loadavg' },
		{ name: 'pressure-memory.txt', file: '/proc/pressure/memory' },
	],
	network: [
		{ name: 'addresses.txt', command: ['ip', '-details', 'address'] },
		{ name: 'routes.txt', command: ['ip', 'route'] },
		{ name: 'sockets.txt', command: ['ss', '-s'] },
		{ name: 'interfaces.txt', file: '/proc/net/dev' },
	],
	disks: [
		{ name: 'filesystems.txt', command: ['df', '-PT'] },
		{ name: 'blocks.txt', command: ['lsblk', '-o', 'NAME,TYPE,SIZE,MODEL,FSTYPE,MOUNTPOINT'] },
		{ name: 'mounts.txt', file: '/proc/mounts' },
		{ name: 'diskstats.txt', file: '/proc/diskstats' },
	],
};

export async function* collectPart(part: BundlePart): AsyncGenerator<Member, void, void> {
	if (part === 'agent') {
		yield { name: 'agent/log.ndjson', text: redactText(await readStdin()) };
		return;
	}
	for (const source of SOURCES[part]) {
		const text = 'file' in source ? fileText(source.file) : await commandText(source.command);
		yield { name: `${part}/${source.name}`, text: redactText(text) };
	}
}

async function readStdin(): Promise<string> {
	const chunks: Buffer[] = [];
	for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
	return Buffer.concat(chunks).toString('utf8');
}

/** The end of a large file: what happened last is what helps. */
function fileText(path: string): string {
	try {
		const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
		try {
			const start = Math.max(0, fstatSync(fd).size - MEMBER_BYTES_MAX);
			const buffer = Buffer.alloc(MEMBER_BYTES_MAX);
			let length = 0;
			for (;;) {
				const read = readSync(fd, buffer, length, buffer.length - length, start === 0 ? null : start + length);
				length += read;
				if (read === 0 || length === buffer.length) break;
			}
			return buffer.toString('utf8', 0, length);
		} finally {
			closeSync(fd);
		}
	} catch (error) {
		return `not readable: ${messageOf(error)}\n`;
	}
}

function commandText([program, ...args]: readonly [string, ...string[]]): Promise<string> {
	const options = {
		timeout: COMMAND_TIMEOUT_MS,
		maxBuffer: MEMBER_BYTES_MAX,
		env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8' },
	};
	return new Promise((resolve) => {
		execFile(program, args, options, (error, stdout, stderr) => {
			const failure = error === null ? '' : `\n[${program}: ${messageOf(error)}]\n`;
			resolve(`${stdout}${stderr === '' ? '' : `\n[stderr]\n${stderr}`}${failure}`);
		});
	});
}
