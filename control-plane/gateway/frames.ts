import { type DescMessage, type Message, toBinary } from '@bufbuild/protobuf';
import { createValidator } from '@bufbuild/protovalidate';
import { ChannelHelloSchema } from '../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import {
	ChannelInventorySchema,
	type Fact,
	FactBatchSchema,
	FactSchema,
	HeartbeatSchema,
	HelloSchema,
	InventoryReportSchema,
	OutputHelloSchema,
	RenewCertificateRequestSchema,
	TaskRefusedSchema,
} from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { HistoryAnswerSchema } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { ChannelEndSchema, ScreenSchema } from '../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';

/** What arrives from agents is checked against the rules in its contract before anything looks at it. */
const validator = createValidator({ failFast: true });

const CHECKED: ReadonlyMap<string, DescMessage> = new Map(
	[
		HelloSchema,
		HeartbeatSchema,
		ChannelInventorySchema,
		ChannelHelloSchema,
		ChannelEndSchema,
		ScreenSchema,
		FactSchema,
		FactBatchSchema,
		HistoryAnswerSchema,
		OutputHelloSchema,
		RenewCertificateRequestSchema,
		TaskRefusedSchema,
	].map((schema) => [schema.typeName, schema]),
);

/** What is wrong with `message`, or undefined. */
export function violation(message: Message): string | undefined {
	const schema = CHECKED.get(message.$typeName);
	if (schema === undefined) return `${message.$typeName} isn't expected here`;
	const result = validator.validate(schema, message);
	if (result.kind === 'valid') return undefined;
	return `${message.$typeName} breaks its contract: ${result.error.message.slice(0, 200)}`;
}

/** What a queued fact costs, near enough: all but inline output and the receipt is small. */
export function factBytes({ fact }: Fact): number {
	if (fact.case === 'inventory') return toBinary(InventoryReportSchema, fact.value).length;
	if (fact.case !== 'taskFinished') return 256;
	const { receipt, certificate, output } = fact.value;
	let bytes = 512 + certificate.length + (receipt?.payload.length ?? 0);
	for (const chunk of output) bytes += 32 + chunk.data.length;
	return bytes;
}
