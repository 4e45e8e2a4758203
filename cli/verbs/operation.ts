import {
	OperationSchema,
	OperationService,
	OperationState,
} from '../../proto/gen/gpuaas/operations/v1/operations_pb.ts';
import { collect, connect } from '../client.ts';
import { type Command, take } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { printJson, printTable, write } from '../io.ts';
import { ago, enumName, fields, json, when } from '../show.ts';

const list: Command = {
	name: 'operation list',
	summary: 'List long-running work, newest first',
	examples: [['gpuaas operation list', 'Drains and what they wait for']],
	async run(args, io) {
		take(list, args);
		const { client } = await connect(io, args);
		const { items } = await collect(
			(pageToken) => client(OperationService).listOperations({ pageToken, pageSize: 1000 }),
			(response) => response.operations,
			10_000,
		);
		if (args.flag('json')) await printJson(io, { operations: items.map((item) => json(OperationSchema, item)) });
		else {
			await printTable(
				io,
				['ID', 'KIND', 'STATE', 'TARGET', 'PROGRESS', 'DEADLINE'],
				items.map((item) => [
					item.id,
					item.kind,
					enumName(OperationState, item.state),
					item.target,
					item.progress,
					ago(io, item.deadline),
				]),
				'no operations',
			);
		}
		return EXIT.ok;
	},
};

const show: Command = {
	name: 'operation show',
	summary: 'Show one operation',
	usage: 'ID',
	examples: [['gpuaas operation show 0190...', 'What it does and why it is not done']],
	async run(args, io) {
		const [operationId = ''] = take(show, args, 'ID');
		const { client } = await connect(io, args);
		const { operation } = await client(OperationService).getOperation({ operationId });
		if (operation === undefined) return EXIT.failed;
		if (args.flag('json')) await printJson(io, { operation: json(OperationSchema, operation) });
		else {
			await write(
				io.stdout,
				fields([
					['operation', operation.id],
					['kind', operation.kind],
					['state', enumName(OperationState, operation.state)],
					['target', operation.target],
					['progress', operation.progress],
					['reason', operation.reason],
					['started', when(io, operation.createdAt)],
					['deadline', when(io, operation.deadline)],
					['ended', operation.endedAt === undefined ? '' : when(io, operation.endedAt)],
				]),
			);
		}
		return EXIT.ok;
	},
};

const cancel: Command = {
	name: 'operation cancel',
	summary: 'Cancel an operation; what it already did stays',
	usage: 'ID',
	examples: [['gpuaas operation cancel 0190...', 'A cancelled drain leaves the node cordoned']],
	async run(args, io) {
		const [operationId = ''] = take(cancel, args, 'ID');
		const { client } = await connect(io, args);
		const { operation } = await client(OperationService).cancelOperation({ operationId });
		if (args.flag('json'))
			await printJson(io, { operation: operation === undefined ? null : json(OperationSchema, operation) });
		else await write(io.stdout, `operation ${operationId} is cancelled\n`);
		return EXIT.ok;
	},
};

export const commands: readonly Command[] = [list, show, cancel];
