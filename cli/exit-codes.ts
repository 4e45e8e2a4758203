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
	/** The reader of standard output went away: 128 + SIGPIPE. */
	brokenPipe: 141,
});

export const EXIT_HELP = 'Exit codes: 0 done, 1 refused or failed, 2 wrong command line';
