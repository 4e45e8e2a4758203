import { globSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import {
	type DescField,
	type DescFile,
	type DescMessage,
	type DescMethod,
	getOption,
	hasOption,
} from '@bufbuild/protobuf';
import { type DataClass, data_class, type MethodPolicy, policy } from '../../proto/gen/gpuaas/common/v1/policy_pb.ts';
import { ROOT } from './sources.ts';

/** The contract as the generated descriptors have it: what ships, not what the .proto text seems to say. */
export async function readContract(): Promise<readonly DescFile[]> {
	const files: DescFile[] = [];
	for (const path of globSync('proto/gen/gpuaas/**/*_pb.ts', { cwd: ROOT }).sort()) {
		const module = (await import(pathToFileURL(join(ROOT, path)).href)) as Record<string, unknown>;
		files.push(...Object.values(module).filter(isFile));
	}
	return files;
}

function isFile(value: unknown): value is DescFile {
	return typeof value === 'object' && value !== null && (value as { kind?: unknown }).kind === 'file';
}

export function listMethods(contract: readonly DescFile[]): DescMethod[] {
	return contract.flatMap((file) => file.services.flatMap((service) => service.methods));
}

/** Also nested messages; without the entries of maps. */
export function listMessages(contract: readonly DescFile[]): DescMessage[] {
	const nested = (message: DescMessage): DescMessage[] => [message, ...message.nestedMessages.flatMap(nested)];
	return contract
		.flatMap((file) => file.messages.flatMap(nested))
		.filter((message) => message.proto.options?.mapEntry !== true);
}

/** `gpuaas.tasks.v1.TaskService/CreateTask` */
export function nameOf(method: DescMethod): string {
	return `${method.parent.typeName}/${method.name}`;
}

export function policyOf(method: DescMethod): MethodPolicy | undefined {
	return hasOption(method, policy) ? getOption(method, policy) : undefined;
}

export function dataClassOf(field: DescField): DataClass | undefined {
	return hasOption(field, data_class) ? getOption(field, data_class) : undefined;
}
