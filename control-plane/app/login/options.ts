import { create } from '@bufbuild/protobuf';
import { GetLoginOptionsResponseSchema, LoginService } from '../../../proto/gen/gpuaas/login/v1/login_pb.ts';
import { query } from '../use-case.ts';

export const getLoginOptions = query('platform', LoginService.method.getLoginOptions, {
	*read() {},
	answer({ deps: { login } }) {
		const providers = login.issuers.map((issuer) => ({ issuer, clientId: login.cliClient }));
		return create(GetLoginOptionsResponseSchema, { providers });
	},
});
