/*
 * pause: the process that holds a pod's namespaces open. It does nothing, in as little memory as a
 * process can: there is one per pod. In C, not Go, for that: a Go runtime keeps megabytes.
 *
 * As PID 1 of a pod that shares its PID namespace it also reaps what other containers orphan.
 */
#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>
#include <unistd.h>

static void stop(int signal)
{
	(void)signal;
	_exit(0);
}

static void reap(int signal)
{
	(void)signal;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static int on(int signal, void (*handler)(int), int flags)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = flags };
	return sigaction(signal, &action, NULL);
}

int main(void)
{
	if (on(SIGINT, stop, 0) || on(SIGTERM, stop, 0) || on(SIGCHLD, reap, SA_NOCLDSTOP | SA_RESTART))
		return 1;
	for (;;)
		pause();
}
