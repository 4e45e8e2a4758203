import { timestampDate } from '@bufbuild/protobuf/wkt';
import { SystemService, WhoAmIResponseSchema } from '../../proto/gen/gpuaas/system/v1/system_pb.ts';
import { connect } from '../client.ts';
import { type Command, take } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { printJson, write } from '../io.ts';
import { fields, json } from '../show.ts';

const whoami: Command = {
	name: 'whoami',
	summary: 'Who the control plane says that you are',
	examples: [['gpuaas whoami', 'Principal, roles and the key in use']],
	async run(args, io) {
		take(whoami, args);
		const { client, context } = await connect(io, args);
		const me = await client(SystemService).whoAmI({});
		if (args.flag('json')) {
			await printJson(io, { context: context.name, ...(json(WhoAmIResponseSchema, me) as object) });
			return EXIT.ok;
		}
		await write(
			io.stdout,
			fields([
				['context', `${context.name} (${context.address})`],
				['principal', `${me.displayName} (${me.kind} ${me.principalId})`],
				['roles', me.bindings.map((binding) => `${binding.role} at ${binding.scope}`).join(', ')],
				[me.login === undefined ? 'key' : 'token', me.credentialId],
				['provider', me.login?.issuer],
				['strength (acr)', me.login?.acr],
				['logged in at', me.login?.authTime === undefined ? '' : timestampDate(me.login.authTime).toISOString()],
				[
					'stepped up until',
					me.login?.steppedUpUntil === undefined ? '' : timestampDate(me.login.steppedUpUntil).toISOString(),
				],
				[
					me.login === undefined ? 'key expires' : 'token expires',
					me.credentialExpiresAt === undefined ? '' : timestampDate(me.credentialExpiresAt).toISOString(),
				],
			]),
		);
		return EXIT.ok;
	},
};

export const commands: readonly Command[] = [whoami];
