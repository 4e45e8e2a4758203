/**
 * Rules as a program for the kernel: type BPF_PROG_TYPE_CGROUP_DEVICE, which the kernel runs at each open of a device by
 * anybody in the cgroup. Its context has three words: kind of access above type of device, major, minor
 * (bpf_cgroup_dev_ctx). 1 lets the open through, 0 fails it with EPERM. One block a rule, each of which ends or leads to
 * the next; after the last everything is closed. Only forward jumps, so the kernel's verifier has nothing to doubt.
 * Layout of an instruction: u8 code, u8 registers (source above target), s16 offset, s32 constant.
 */
import { endianness } from 'node:os';
import type { DeviceRule } from '../platform/device-rules.ts';

const INSTRUCTION_BYTES = 8;

/** BPF_LDX | BPF_MEM | BPF_W */
const LOAD_WORD = 0x61;
/** BPF_ALU: 32 bits. */
const AND = 0x54;
const SHIFT_RIGHT = 0x74;
const MOVE_REGISTER = 0xbc;
/** BPF_ALU64 | BPF_MOV | BPF_K */
const MOVE_CONSTANT = 0xb7;
/** BPF_JMP | BPF_JNE, with a constant and with a register. */
const JUMP_NOT_EQUAL = 0x55;
const JUMP_NOT_EQUAL_REGISTER = 0x5d;
const EXIT = 0x95;

const RESULT = 0;
const CONTEXT = 1;
const TYPE = 2;
const ACCESS = 3;
const MAJOR = 4;
const MINOR = 5;
/** The context is no longer needed once its words are read. */
const SCRATCH = CONTEXT;

/** BPF_DEVCG_DEV_* and BPF_DEVCG_ACC_* (1 is mknod, which no rule grants). */
const TYPES = { b: 1, c: 2 } as const;
const ACCESSES = { r: 2, w: 4, rw: 6 } as const;

type Instruction = readonly [code: number, target: number, source: number, offset: number, constant: number];

const PROLOGUE: readonly Instruction[] = [
	[LOAD_WORD, TYPE, CONTEXT, 0, 0],
	[AND, TYPE, 0, 0, 0xffff],
	[LOAD_WORD, ACCESS, CONTEXT, 0, 0],
	[SHIFT_RIGHT, ACCESS, 0, 0, 16],
	[LOAD_WORD, MAJOR, CONTEXT, 4, 0],
	[LOAD_WORD, MINOR, CONTEXT, 8, 0],
];
const ALLOW: readonly Instruction[] = [
	[MOVE_CONSTANT, RESULT, 0, 0, 1],
	[EXIT, 0, 0, 0, 0],
];
const DENY: readonly Instruction[] = [
	[MOVE_CONSTANT, RESULT, 0, 0, 0],
	[EXIT, 0, 0, 0, 0],
];

/** The jumps of a block lead behind its end. */
function block({ type, major, minor, access }: DeviceRule): readonly Instruction[] {
	const tests: readonly Instruction[] = [
		[JUMP_NOT_EQUAL, TYPE, 0, 0, TYPES[type]],
		[JUMP_NOT_EQUAL, MAJOR, 0, 0, major],
		...(minor === '*' ? [] : ([[JUMP_NOT_EQUAL, MINOR, 0, 0, minor]] as const)),
		// What is asked for must be part of what is granted.
		[MOVE_REGISTER, SCRATCH, ACCESS, 0, 0],
		[AND, SCRATCH, 0, 0, ACCESSES[access]],
		[JUMP_NOT_EQUAL_REGISTER, SCRATCH, ACCESS, 0, 0],
	];
	const lengthOf = tests.length + ALLOW.length;
	const isJump = (code: number) => code === JUMP_NOT_EQUAL || code === JUMP_NOT_EQUAL_REGISTER;
	const placed = tests.map(
		([code, target, source, offset, constant], index): Instruction => [
			code,
			target,
			source,
			isJump(code) ? lengthOf - index - 1 : offset,
			constant,
		],
	);
	return [...placed, ...ALLOW];
}

function encode(instructions: readonly Instruction[]): Buffer {
	const bytes = Buffer.alloc(instructions.length * INSTRUCTION_BYTES);
	instructions.forEach(([code, target, source, offset, constant], index) => {
		const at = index * INSTRUCTION_BYTES;
		bytes.writeUInt8(code, at);
		bytes.writeUInt8((source << 4) | target, at + 1);
		bytes.writeInt16LE(offset, at + 2);
		bytes.writeInt32LE(constant, at + 4);
	});
	return bytes;
}

/** The program, in the byte order of this machine. */
export function assembleDeviceProgram(rules: readonly DeviceRule[]): Buffer {
	if (endianness() !== 'LE') throw new Error('programs are assembled for little-endian machines only');
	return encode([...PROLOGUE, ...rules.flatMap(block), ...DENY]);
}
