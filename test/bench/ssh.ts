import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { assert } from '../../kit/assert.ts';
import { eventually } from '../eventually.ts';

/** OpenSSH beside us: a jump host and a target, two daemons on loopback, with keys of their own. Needs root, as sshd does. */
export class SshPair implements AsyncDisposable {
	readonly jumpPort: number;
	/** Path of the client's configuration, with the hosts `jump` and `target`. */
	readonly config: string;
	readonly #targetPort: number;
	readonly #folder: string;
	readonly #daemons: readonly ChildProcess[];

	private constructor(folder: string, daemons: readonly ChildProcess[], ports: readonly [number, number]) {
		this.#folder = folder;
		this.#daemons = daemons;
		[this.jumpPort, this.#targetPort] = ports;
		this.config = this.configVia(join(folder, 'config'), this.jumpPort);
	}

	/** The same with the jump host at another port, written to `path`. */
	configVia(path: string, jumpPort: number): string {
		const hosts = [hostOf(this.#folder, 'jump', jumpPort), hostOf(this.#folder, 'target', this.#targetPort)];
		writeFileSync(path, hosts.join('\n'));
		return path;
	}

	static async start(): Promise<SshPair> {
		assert(process.getuid?.() === 0, 'sshd is started as root; run this row as root');
		execFileSync('sh', [fileURLToPath(new URL('./install-openssh.sh', import.meta.url))], { stdio: 'inherit' });
		const folder = mkdtempSync(join(tmpdir(), 'bench-ssh-'));
		mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
		const key = (name: string) =>
			execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(folder, name)]);
		key('host');
		key('user');
		execFileSync('cp', [join(folder, 'user.pub'), join(folder, 'authorized')]);
		const ports = [await freePort(), await freePort()] as const;
		const pair = new SshPair(
			folder,
			ports.map((port) => daemon(folder, port)),
			ports,
		);
		await eventually('sshd answers', () => {
			const argv = ['-F', pair.config, '-J', 'jump', 'target', 'true'];
			execFileSync('/usr/bin/ssh', argv, { stdio: 'ignore', timeout: 5000 });
			return true;
		});
		return pair;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		for (const child of this.#daemons) child.kill('SIGTERM');
		rmSync(this.#folder, { recursive: true, force: true });
	}
}

function daemon(folder: string, port: number): ChildProcess {
	const options = [
		`HostKey=${join(folder, 'host')}`,
		`AuthorizedKeysFile=${join(folder, 'authorized')}`,
		'PermitRootLogin=prohibit-password',
		'StrictModes=no',
		'UsePAM=no',
		'PidFile=none',
		'PrintMotd=no',
		// What scp speaks.
		'Subsystem=sftp internal-sftp',
	];
	const flags = options.flatMap((option) => ['-o', option]);
	return spawn('/usr/sbin/sshd', ['-D', '-f', '/dev/null', '-p', String(port), ...flags], { stdio: 'ignore' });
}

function hostOf(folder: string, name: string, port: number): string {
	return `Host ${name}
  HostName 127.0.0.1
  Port ${port}
  User ${userInfo().username}
  IdentityFile ${join(folder, 'user')}
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR`;
}

function freePort(): Promise<number> {
	return new Promise((resolve) => {
		const server = createServer();
		server.listen(0, '127.0.0.1', () => {
			const address = server.address();
			const port = typeof address === 'object' && address !== null ? address.port : 0;
			server.close(() => resolve(port));
		});
	});
}
