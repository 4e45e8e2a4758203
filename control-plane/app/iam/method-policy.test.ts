import { create, createFileRegistry, type DescMethod, type MessageInitShape, setExtension } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema, MethodOptionsSchema } from '@bufbuild/protobuf/wkt';
import { expect, test } from 'vitest';
import {
	AuditClass,
	Caller,
	Idempotency,
	MethodPolicySchema,
	policy,
	RateClass,
	ScopeSource,
	StepUp,
} from '../../../proto/gen/gpuaas/common/v1/policy_pb.ts';
import { checkedPolicy } from './method-policy.ts';

type Policy = MessageInitShape<typeof MethodPolicySchema>;

const WHOLE: Policy = {
	caller: Caller.PRINCIPAL,
	permission: 'nodes.get',
	scope: ScopeSource.NODE,
	scopeField: 'node',
	audit: AuditClass.READ,
	stepUp: StepUp.NOT_REQUIRED,
	idempotency: Idempotency.SAFE,
	rate: RateClass.READ,
};

/** `sample.SampleService/Look` of a request with the field `node`. */
function methodWith(option: Policy | undefined): DescMethod {
	const options = create(MethodOptionsSchema);
	if (option !== undefined) setExtension(options, policy, create(MethodPolicySchema, option));
	const file = create(FileDescriptorProtoSchema, {
		name: 'sample.proto',
		package: 'sample',
		syntax: 'proto3',
		messageType: [{ name: 'Request', field: [{ name: 'node', number: 1, type: 9, label: 1 }] }, { name: 'Response' }],
		service: [
			{
				name: 'SampleService',
				method: [{ name: 'Look', inputType: '.sample.Request', outputType: '.sample.Response', options }],
			},
		],
	});
	const [method] = createFileRegistry(file, () => undefined).getService('sample.SampleService')?.methods ?? [];
	if (method === undefined) throw new Error('the sample has one method');
	return method;
}

test('a whole policy is taken as it is', () => {
	expect(checkedPolicy(methodWith(WHOLE))).toMatchObject({
		name: 'sample.SampleService/Look',
		permission: 'nodes.get',
		target: 'node',
		targetField: 'node',
		reads: true,
		stepUp: false,
	});
});

test.each<[string, Policy | undefined, RegExp]>([
	['none', undefined, /has no \(gpuaas\.common\.v1\.policy\) option/],
	['no caller', { ...WHOLE, caller: Caller.UNSPECIFIED }, /policy\.caller is not set/],
	['no scope', { ...WHOLE, scope: ScopeSource.UNSPECIFIED }, /policy\.scope is not set/],
	['no audit class', { ...WHOLE, audit: AuditClass.UNSPECIFIED }, /policy\.audit is not set/],
	['no step-up', { ...WHOLE, stepUp: StepUp.UNSPECIFIED }, /policy\.step_up is not set/],
	['no idempotency', { ...WHOLE, idempotency: Idempotency.UNSPECIFIED }, /policy\.idempotency is not set/],
	['no rate', { ...WHOLE, rate: RateClass.UNSPECIFIED }, /policy\.rate is not set/],
	['no permission', { ...WHOLE, permission: '' }, /policy\.permission is not set/],
	['a field that is not there', { ...WHOLE, scopeField: 'nod' }, /policy\.scope_field "nod" is not a field/],
	['request ids and no field for them', { ...WHOLE, idempotency: Idempotency.REQUEST_ID }, /has no request_id/],
])('a policy with %s stops the start', (_what, option, message) => {
	expect(() => checkedPolicy(methodWith(option))).toThrow(message);
});
