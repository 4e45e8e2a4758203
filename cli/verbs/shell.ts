import { AttachMode, TerminalService } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { connect } from '../client.ts';
import { type Command, take, usageError } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { newRequestId } from '../request-id.ts';
import { broughtEnv, OPEN_OPTIONS, windowSize } from '../terminal/open-options.ts';
import { attachTo, present } from '../terminal/session.ts';

const shell: Command = {
	name: 'shell',
	summary: 'Open a login shell on a node',
	usage: 'NODE',
	description:
		'As the account that the policy of the node names. Close the laptop: the shell goes on, and gpuaas terminal attach comes back to it with the screen as it is. Right after Enter, ~? lists what can be done, ~d detaches, ~. ends it.',
	noJson: 'a shell is for a person; for programs there is: gpuaas exec --json NODE -- ARGV...',
	options: {
		...OPEN_OPTIONS,
		shell: { type: 'string', value: 'PATH', help: 'Another login shell, if the policy of the node allows it' },
	},
	examples: [
		['gpuaas shell gpu-07', 'A shell'],
		['gpuaas shell gpu-07 -u train', 'As another account, if the policy of the node allows it'],
	],
	failureExit: EXIT.channelFailed,
	exitCodes: ["the shell's own", '128+n ended by signal n', '255 also not opened, or ended from outside'],
	async run(args, io) {
		const [node = ''] = take(shell, args, 'NODE');
		if (io.stdin.isTTY !== true || io.stdout.isTTY !== true)
			throw usageError(shell, 'a shell needs a terminal on both sides; for programs and pipes there is gpuaas exec');
		const api = await connect(io, args);
		const { terminal } = await api.client(TerminalService).openTerminal({
			node,
			spec: {
				kind: { case: 'shell', value: { shell: args.text('shell') ?? '', size: windowSize(io) } },
				user: args.text('user') ?? '',
				env: broughtEnv(io),
			},
			purpose: args.text('purpose') ?? '',
			requestId: newRequestId(io),
		});
		return await attachTo(io, api, present(terminal), { mode: AttachMode.CONTROL, readsStdin: true });
	},
};

export const commands: readonly Command[] = [shell];
