import { GpuaasError, messageOf } from '../../kit/error.ts';
import { LoginService } from '../../proto/gen/gpuaas/login/v1/login_pb.ts';
import { connect } from '../client.ts';
import { type Command, take } from '../command.ts';
import { changeContext, pickContext } from '../contexts.ts';
import { EXIT } from '../exit-codes.ts';
import { type Io, printJson, write } from '../io.ts';

const logout: Command = {
	name: 'logout',
	summary: 'End the login of a context, here, at the control plane and at the provider',
	description:
		'Its tokens are void from then on, whoever holds a copy. The context stays, without its login; an API key is not touched (revoke it, or remove the context).',
	examples: [['gpuaas logout', 'Of the current context']],
	async run(args, io) {
		take(logout, args);
		const { name, login } = await pickContext(io, args.text('context'));
		if (login === undefined) {
			throw new GpuaasError({
				code: 'FAILED_PRECONDITION',
				reason: 'LOGGED_OUT',
				message: `context ${name} has no login to end; nothing was done`,
			});
		}
		const ended = await endAtControlPlane(io, name);
		const { revokeLogin } = await import('../oidc/refresh.ts');
		const revoked = await revokeLogin(login);
		await changeContext(io, name, async ({ login: _, ...rest }) => rest);
		if (args.flag('json')) await printJson(io, { context: name, controlPlane: ended === undefined, provider: revoked });
		else {
			await write(io.stdout, `logged out of ${name}\n`);
			if (ended !== undefined) await write(io.stderr, `the control plane was not told: ${ended}\n`);
			if (!revoked) await write(io.stderr, 'the provider was not told: its session ends by itself, or log out there\n');
		}
		return EXIT.ok;
	},
};

/** Why it could not be told; then a copy of the last access token is good for its few minutes. */
async function endAtControlPlane(io: Io, name: string): Promise<string | undefined> {
	try {
		const { client } = await connect(io, { text: (option) => (option === 'context' ? name : undefined) });
		await client(LoginService).endLogin({});
		return undefined;
	} catch (error) {
		return messageOf(error);
	}
}

export const commands: readonly Command[] = [logout];
