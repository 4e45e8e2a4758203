/*
 * Stands for a process whose disk does not answer: state D for good. The parent of vfork waits uninterruptibly until its
 * child ends. Unlike one that waits for real hardware, SIGKILL ends it.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(void) {
	if (vfork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;) pause();
	}
	return 0;
}
