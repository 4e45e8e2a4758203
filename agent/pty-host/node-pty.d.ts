/** The part of node-pty that we use: its binding. See pty-program.ts for why not its wrapper. */
declare module 'node-pty/requireBinary.js' {
	interface PtyBinding {
		/** forkpty(3) and execvp(3). `env` as NAME=VALUE; ids of -1 keep ours. The child leads a new session on the terminal. */
		fork(
			file: string,
			args: string[],
			env: string[],
			cwd: string,
			columns: number,
			rows: number,
			uid: number,
			gid: number,
			utf8: boolean,
			helperPath: string,
			onExit: (code: number, signal: number) => void,
		): { readonly fd: number; readonly pid: number; readonly pty: string };
		resize(fd: number, columns: number, rows: number): void;
	}
	const exported: { requireBinary(name: 'pty.node'): PtyBinding };
	export = exported;
}
