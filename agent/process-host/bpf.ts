/**
 * bpf(2) through koffi, as much of it as device programs need: load, attach to a cgroup, replace, and ask what is
 * attached. The kernel keeps an attached program for as long as its cgroup exists, whatever becomes of this process.
 * Structures are those of linux/bpf.h (union bpf_attr); bytes that aren't set are 0, which the kernel demands.
 */
import { closeSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';

const NUMBERS: Readonly<Record<string, number>> = { x64: 321, arm64: 280 };

const PROG_LOAD = 5;
const PROG_ATTACH = 8;
const PROG_GET_FD_BY_ID = 13;
const OBJ_GET_INFO_BY_FD = 15;
const PROG_QUERY = 16;

/** BPF_PROG_TYPE_CGROUP_DEVICE, BPF_CGROUP_DEVICE. */
const CGROUP_DEVICE_PROGRAM = 15;
const CGROUP_DEVICE_ATTACH = 6;
/** Beside programs of the cgroups above (systemd's): all of them must let an open through. */
const ALLOW_MULTI = 2;
const REPLACE = 4;

/** The verifier gives up when a signal comes, and a host gets one for each program that ends. */
const TRIES_MAX = 100;

const INSTRUCTION_BYTES = 8;
const ATTRIBUTE_BYTES = 128;
/** More than anybody attaches to one cgroup (BPF_CGROUP_MAX_PROGS). */
const ATTACHED_MAX = 64;
/** Type and id, of a structure that grows. */
const INFO_BYTES = 8;
/** As bpftool(8) shows it. */
const NAME = 'gpuaas_devices';

type Syscall = (number: number, command: number, attributes: Buffer, bytes: number) => number;

export interface Bpf {
	/** A descriptor of the program, which is the caller's to close. */
	load(instructions: Buffer): number;
	/** In place of `replaced`, in one step, when it is given. */
	attach(cgroupFd: number, programFd: number, replaced?: number): void;
	/** Ids of what is attached to this very cgroup. */
	attached(cgroupFd: number): readonly number[];
	idOf(programFd: number): number;
	/** A descriptor of a program that somebody else loaded. */
	open(id: number): number;
}

/** Rejects where koffi or the system call isn't known; whether the kernel permits it shows at the first use. */
export async function loadBpf(): Promise<Bpf> {
	const number = NUMBERS[process.arch];
	if (number === undefined) throw new Error(`the number of bpf(2) on ${process.arch} is not known`);
	const { default: koffi } = await import('koffi');
	// Of this program: whatever C library it has.
	const syscall = koffi.load(null).func('int64_t syscall(int64_t, int64_t, void *, uint64_t)') as Syscall;
	const call = (what: string, command: number, attributes: Buffer): number => {
		for (let tries = 1; ; tries += 1) {
			const result = Number(syscall(number, command, attributes, attributes.length));
			if (result >= 0) return result;
			const name = getSystemErrorName(-koffi.errno());
			if (name !== 'EAGAIN' || tries >= TRIES_MAX) throw new Error(`bpf(${what}) failed: ${name}`);
		}
	};
	const addressOf = (bytes: Buffer) => BigInt(koffi.address(bytes));
	const attributes = (write: (bytes: Buffer) => void): Buffer => {
		const bytes = Buffer.alloc(ATTRIBUTE_BYTES);
		write(bytes);
		return bytes;
	};
	return {
		load(instructions) {
			// The kernel asks for one; programs that call nothing of its own may have any.
			const license = Buffer.from('Apache-2.0\0');
			const wanted = attributes((bytes) => {
				bytes.writeUInt32LE(CGROUP_DEVICE_PROGRAM, 0);
				bytes.writeUInt32LE(instructions.length / INSTRUCTION_BYTES, 4);
				bytes.writeBigUInt64LE(addressOf(instructions), 8);
				bytes.writeBigUInt64LE(addressOf(license), 16);
				bytes.write(NAME, 48, 'latin1');
				bytes.writeUInt32LE(CGROUP_DEVICE_ATTACH, 68);
			});
			return call('PROG_LOAD', PROG_LOAD, wanted);
		},
		attach(cgroupFd, programFd, replaced) {
			const wanted = attributes((bytes) => {
				bytes.writeUInt32LE(cgroupFd, 0);
				bytes.writeUInt32LE(programFd, 4);
				bytes.writeUInt32LE(CGROUP_DEVICE_ATTACH, 8);
				bytes.writeUInt32LE(replaced === undefined ? ALLOW_MULTI : ALLOW_MULTI | REPLACE, 12);
				if (replaced !== undefined) bytes.writeUInt32LE(replaced, 16);
			});
			call('PROG_ATTACH', PROG_ATTACH, wanted);
		},
		attached(cgroupFd) {
			const ids = Buffer.alloc(ATTACHED_MAX * 4);
			const wanted = attributes((bytes) => {
				bytes.writeUInt32LE(cgroupFd, 0);
				bytes.writeUInt32LE(CGROUP_DEVICE_ATTACH, 4);
				bytes.writeBigUInt64LE(addressOf(ids), 16);
				bytes.writeUInt32LE(ATTACHED_MAX, 24);
			});
			call('PROG_QUERY', PROG_QUERY, wanted);
			return Array.from({ length: wanted.readUInt32LE(24) }, (_, index) => ids.readUInt32LE(index * 4));
		},
		idOf(programFd) {
			const info = Buffer.alloc(INFO_BYTES);
			const wanted = attributes((bytes) => {
				bytes.writeUInt32LE(programFd, 0);
				bytes.writeUInt32LE(info.length, 4);
				bytes.writeBigUInt64LE(addressOf(info), 8);
			});
			call('OBJ_GET_INFO_BY_FD', OBJ_GET_INFO_BY_FD, wanted);
			return info.readUInt32LE(4);
		},
		open: (id) =>
			call(
				'PROG_GET_FD_BY_ID',
				PROG_GET_FD_BY_ID,
				attributes((bytes) => bytes.writeUInt32LE(id, 0)),
			),
	};
}

/** For as long as `use` runs. */
export function withDescriptor<T>(fd: number, use: (fd: number) => T): T {
	try {
		return use(fd);
	} finally {
		closeSync(fd);
	}
}
