import type { DescMethod } from '@bufbuild/protobuf';
import { API_SERVICES } from '../../control-plane/api/methods.ts';
import { type CheckedPolicy, checkedPolicy } from '../../control-plane/app/iam/method-policy.ts';
import { AuditClass } from '../../proto/gen/gpuaas/common/v1/policy_pb.ts';
import { sampleRequest } from '../integration/api-samples.ts';
import { collectionOf } from '../integration/iam-requests.ts';
import { exemptionOf } from './exempt.ts';
import { ID_FIELDS, idFieldsOf } from './fields.ts';
import type { Sample } from './sample.ts';

/**
 * The negative matrix, generated from the contract: for every RPC, each way in which a tenant can name what is another's.
 * A case is two requests of the stranger, one that names the other tenant's thing and one that names nobody's: they must
 * be answered alike, byte for byte, and do nothing.
 */
export type CaseKind =
	| 'get'
	| 'change'
	| 'watch'
	| 'export'
	| 'field'
	| 'mixed parents'
	| 'filter'
	| 'list'
	| 'page token'
	| 'etag'
	| 'request id';

export interface Parties {
	/** The stranger's own. */
	readonly own: Sample;
	/** The other tenant's. */
	readonly theirs: Sample;
	readonly nobodys: Sample;
}

export type Request = Readonly<Record<string, unknown>>;

export interface Case {
	readonly method: DescMethod;
	readonly policy: CheckedPolicy;
	readonly kind: CaseKind;
	/** For `field` and `filter`: which. */
	readonly field: string;
	/** The two requests; of `list` only the first counts: its answer holds nothing of theirs. */
	requests(parties: Parties): { readonly foreign: Request; readonly unknown: Request };
}

export interface Rpc {
	readonly method: DescMethod;
	readonly policy: CheckedPolicy;
	readonly cases: readonly Case[];
}

/** Of the API listener; all without exemption. */
export function rpcs(): readonly Rpc[] {
	return API_SERVICES.flatMap((service) => service.methods).flatMap((method) => {
		const policy = checkedPolicy(method);
		if (exemptionOf(method, policy) !== undefined) return [];
		return [{ method, policy, cases: casesOf(method, policy) }];
	});
}

/** A request of the method about this sample, with every field that can name something of it. */
export function requestOf(method: DescMethod, sample: Sample): Request {
	const request: Record<string, unknown> = { ...sampleRequest(method, sample) };
	for (const name of idFieldsOf(method)) {
		const value = ID_FIELDS[name];
		const isSampled = name === 'parent' && request.parent !== undefined && request.parent !== '';
		if (typeof value === 'function' && !isSampled) request[name] = value(sample);
	}
	return { ...request, ...ADJUSTED[method.name] };
}

/** So that the rest of the request is good and the named thing is what is judged. */
const ADJUSTED: Readonly<Record<string, Request>> = {
	CreateApproval: { method: 'gpuaas.iam.v1.KeyService/CreateKey' },
	QueryTelemetryHistory: { from: new Date(Date.UTC(2026, 0, 1)).toISOString() },
};

function casesOf(method: DescMethod, policy: CheckedPolicy): readonly Case[] {
	const of = (kind: CaseKind, requests: Case['requests'], field = ''): Case => ({
		method,
		policy,
		kind,
		field,
		requests,
	});
	const isList = policy.target === 'any' && /^List/.test(method.name);
	return [...(isList ? listCases(method, of) : namedCases(method, policy, of)), ...commonCases(method, policy, of)];
}

type MakeCase = (kind: CaseKind, requests: Case['requests'], field?: string) => Case;

/** What a request names as a whole, and each name alone beside one's own. */
function namedCases(method: DescMethod, policy: CheckedPolicy, of: MakeCase): readonly Case[] {
	const all = of(kindOf(method, policy), ({ theirs, nobodys }) => ({
		foreign: requestOf(method, theirs),
		unknown: requestOf(method, nobodys),
	}));
	const fields = idFieldsOf(method).map((field) =>
		of(
			'field',
			({ own, theirs, nobodys }) => ({
				foreign: { ...requestOf(method, own), [field]: requestOf(method, theirs)[field] },
				unknown: { ...requestOf(method, own), [field]: requestOf(method, nobodys)[field] },
			}),
			field,
		),
	);
	const isNamed = policy.target === 'scope' && policy.targetField === 'name' && collectionOf(method.name) !== '';
	// A name that puts another's id behind one's own scope, and one's own id behind another's.
	const mixed = of('mixed parents', ({ own, theirs, nobodys }) => ({
		foreign: requestOf(method, { ...theirs, iam: { ...theirs.iam, scope: own.iam.scope } }),
		unknown: requestOf(method, { ...nobodys, iam: { ...nobodys.iam, scope: own.iam.scope } }),
	}));
	return [all, ...(fields.length > 1 ? fields : []), ...(isNamed ? [mixed] : [])];
}

function kindOf(method: DescMethod, policy: CheckedPolicy): CaseKind {
	if (/^Export/.test(method.name)) return 'export';
	if (method.methodKind !== 'unary') return 'watch';
	return policy.audit === AuditClass.NONE || policy.audit === AuditClass.READ ? 'get' : 'change';
}

function listCases(method: DescMethod, of: MakeCase): readonly Case[] {
	const list = of('list', () => ({ foreign: wholeList(method), unknown: wholeList(method) }));
	const filters = idFieldsOf(method).map((field) =>
		of(
			'filter',
			({ theirs, nobodys }) => ({
				foreign: { [field]: requestOf(method, theirs)[field] },
				unknown: { [field]: requestOf(method, nobodys)[field] },
			}),
			field,
		),
	);
	return [list, ...filters];
}

/** All that the list has, as far as one page goes. */
export function wholeList(method: DescMethod): Request {
	return { pageSize: 1000, ...WHOLE[method.name] };
}

const WHOLE: Readonly<Record<string, Request>> = {
	ListAuditRecords: { newestFirst: true },
	ListTerminals: { includeClosed: true },
};

function commonCases(method: DescMethod, policy: CheckedPolicy, of: MakeCase): readonly Case[] {
	const has = (name: string) => method.input.fields.some(({ localName }) => localName === name);
	const cases: Case[] = [];
	if (has('etag'))
		cases.push(
			of('etag', ({ theirs, nobodys }) => ({
				foreign: { ...requestOf(method, theirs), etag: 'v999' },
				unknown: { ...requestOf(method, nobodys), etag: 'v1' },
			})),
		);
	if (has('requestId'))
		cases.push(
			of('request id', ({ theirs, nobodys }) => ({
				foreign: { ...requestOf(method, theirs), requestId: usedRequestId(policy) },
				unknown: { ...requestOf(method, nobodys), requestId: 'never-used' },
			})),
		);
	if (has('pageToken'))
		cases.push(
			of('page token', ({ own }) => {
				const base = policy.target === 'scope' ? requestOf(method, own) : {};
				return { foreign: { ...base, pageToken: THEIR_PAGE }, unknown: { ...base, pageToken: NOBODYS_PAGE } };
			}),
		);
	return cases;
}

/** The runner puts the owner's own token in its place, and one that is of nobody. */
export const THEIR_PAGE = 'their-page';
export const NOBODYS_PAGE = 'nobodys-page';

/** Kept with an answer for the other tenant before the matrix runs. */
export function usedRequestId(policy: CheckedPolicy): string {
	return `used-${policy.name.split('/')[1]}`;
}
