import { create } from '@bufbuild/protobuf';
import { GetVersionResponseSchema, SystemService } from '../../../proto/gen/gpuaas/system/v1/system_pb.ts';
import { query } from '../use-case.ts';

const API_VERSION = 'v1';

/** For anybody. A version may carry its commit as semver build metadata: `0.1.0+abc123`. */
export const getVersion = query('platform', SystemService.method.getVersion, {
	*read() {},
	answer({ deps }) {
		const [version = '', commit = ''] = deps.version.split('+');
		return create(GetVersionResponseSchema, { version, commit, apiVersion: API_VERSION });
	},
});
