import { expect, test } from 'vitest';
import { LoginService } from '../../proto/gen/gpuaas/login/v1/login_pb.ts';
import { ApiWorld } from './api-world.ts';

test('anybody may ask how to log in; without a provider there is nothing to offer', async () => {
	await using world = await ApiWorld.start();
	expect((await world.client(LoginService).getLoginOptions({})).providers).toEqual([]);
});
