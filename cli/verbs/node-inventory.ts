import { Custody } from '../../proto/gen/gpuaas/common/v1/types_pb.ts';
import { type Inventory, InventoryChangeKind } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import {
	GetNodeInventoryResponseSchema,
	type InventoryChangeSet,
	TelemetryService,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_service_pb.ts';
import { connect } from '../client.ts';
import { type Command, take } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { paint, printable, printJson, write } from '../io.ts';
import { quantity } from '../quantity.ts';
import { ago, enumName, fields, json, when } from '../show.ts';

export const inventory: Command = {
	name: 'node inventory',
	summary: 'Show what a node consists of, with serials, and what changed lately',
	usage: 'NODE',
	examples: [['gpuaas node inventory gpu-07', 'Board, processors, memory, disks, network, GPUs']],
	async run(args, io) {
		const [node = ''] = take(inventory, args, 'NODE');
		const { client } = await connect(io, args);
		const answer = await client(TelemetryService).getNodeInventory({ node });
		if (args.flag('json')) {
			await printJson(io, json(GetNodeInventoryResponseSchema, answer));
			return EXIT.ok;
		}
		const found = answer.inventory;
		if (found === undefined) return EXIT.failed;
		const head = fields([
			['digest', found.digest],
			['reported', `${when(io, answer.receivedAt)}, in ${enumName(Custody, answer.custody)} custody`],
		]);
		const simulated = found.simulated
			? `${paint(io, 'yellow', 'simulated: GPUs come from a test double of the driver')}\n`
			: '';
		const lines = [
			...parts(found),
			...answer.changes.flatMap((change) => changeLines(ago(io, change.receivedAt), change)),
		];
		await write(io.stdout, `${simulated}${printable(head)}${printable(lines.join('\n'))}\n`);
		return EXIT.ok;
	},
};

function* parts(found: Inventory): Generator<string> {
	const { board, driver } = found;
	if (board !== undefined) {
		yield 'machine';
		yield `  system: ${words(board.vendor, board.product) || '-'}, serial ${board.serial || '-'}`;
		yield `  board: ${words(board.boardVendor, board.boardProduct) || '-'}, serial ${board.boardSerial || '-'}`;
		yield `  BIOS: ${words(board.biosVersion, board.biosDate) || '-'}`;
	}
	if (driver !== undefined)
		yield `  software: ${words(driver.os, driver.kernel) || '-'}, NVIDIA driver ${driver.nvidiaDriver || 'none'}`;
	yield* section('processors', found.cpus, (cpu) => `${cpu.model}: ${cpu.cores} cores, ${cpu.threads} threads`);
	yield* section('memory', found.memory, (dimm) =>
		words(dimm.slot, quantity(Number(dimm.bytes), 'bytes'), dimm.kind, dimm.partNumber, `serial ${dimm.serial || '-'}`),
	);
	yield* section('disks', found.disks, (disk) => words(disk.device, disk.model, `serial ${disk.serial || '-'}`));
	yield* section('network', found.nics, (nic) =>
		words(nic.device, nic.mac || nic.guid, nic.driver, `serial ${nic.serial || '-'}`),
	);
	yield* section('GPUs', found.gpus, (gpu) =>
		words(
			String(gpu.index),
			gpu.name,
			gpu.uuid,
			gpu.pciBusId,
			`serial ${gpu.serial || '-'}`,
			`VBIOS ${gpu.vbios || '-'}`,
		),
	);
	yield* section('MIG devices', found.slices, (slice) => words(slice.profile, slice.uuid, `on ${slice.gpuUuid}`));
	yield* section('could not be read', found.gaps, (gap) => gap);
}

function* section<T>(title: string, items: readonly T[], line: (item: T) => string): Generator<string> {
	if (items.length === 0) return;
	yield title;
	for (const item of items) yield `  ${line(item)}`;
}

function changeLines(when: string, { changes }: InventoryChangeSet): string[] {
	return [
		`changed ${when}`,
		...changes.map(({ part, id, kind, field, before, after }) => {
			const what =
				kind === InventoryChangeKind.CHANGED ? `${field}: ${before} -> ${after}` : enumName(InventoryChangeKind, kind);
			return `  ${part} ${id} ${what}`;
		}),
	];
}

function words(...texts: readonly string[]): string {
	return texts.filter((text) => text !== '').join(' ');
}
