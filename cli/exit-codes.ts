/** What the process ends with; documented in every `--help`. */
export const EXIT = Object.freeze({
	ok: 0,
	/** The control plane, or this program, refused or failed. */
	failed: 1,
	/** The command line is wrong: nothing was done. */
	usage: 2,
	/** `run`: the task ran into its timeout. */
	timeout: 124,
	/** `run`: the task could not be run, or nobody knows how it ended. */
	taskFailed: 125,
	/** `run`: ended by signal n: 128 + n. */
	signalBase: 128,
	interrupted: 130,
	/** `shell`, `exec`, `terminal attach`: not opened, or ended from outside. As ssh has it. */
	channelFailed: 255,
	/** The reader of standard output went away: 128 + SIGPIPE. */
	brokenPipe: 141,
});

/** The codes that verbs share, a line each; `failureExit` where one of its own stands for all failures of ours. */
export function exitHelp(failureExit: number | undefined): readonly string[] {
	if (failureExit !== undefined) return ['0 done', `${failureExit} refused, failed or wrong command line`];
	return ['0 done', '1 refused or failed', '2 wrong command line'];
}
