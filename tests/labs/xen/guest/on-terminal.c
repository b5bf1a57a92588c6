/* on-terminal [WORDS KEYS].. -- COMMAND..: runs COMMAND on a terminal of 80x24, as a serial console is one; each time that WORDS came
 * on its screen since the last keys, types KEYS. What is drawn goes to standard output. Exit status: the command's; 125 when it has not
 * ended within two minutes, or WORDS never came. */
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char drawn[1 << 20];

int main(int argc, char **argv) {
    int first = 1;
    while (first < argc && strcmp(argv[first], "--") != 0) first++;
    if (first + 1 >= argc || first % 2 == 0) return 2;
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    int terminal;
    pid_t child = forkpty(&terminal, NULL, NULL, &size);
    if (child == 0) {
        setenv("TERM", "vt100", 1);
        execvp(argv[first + 1], argv + first + 1);
        _exit(127);
    }
    time_t until = time(NULL) + 120;
    size_t length = 0, looked_at = 0;
    int next = 1;
    while (time(NULL) < until) {
        struct pollfd ready = {.fd = terminal, .events = POLLIN};
        if (poll(&ready, 1, 1000) <= 0) continue;
        if (length + 1 >= sizeof drawn) length = looked_at = 0;
        ssize_t more = read(terminal, drawn + length, sizeof drawn - 1 - length);
        if (more <= 0) {
            int status;
            if (next < first || waitpid(child, &status, 0) != child) return 125;
            return WIFEXITED(status) ? WEXITSTATUS(status) : 125;
        }
        fwrite(drawn + length, 1, more, stdout);
        length += more;
        drawn[length] = 0;
        if (next < first && strstr(drawn + looked_at, argv[next])) {
            looked_at = length;
            if (write(terminal, argv[next + 1], strlen(argv[next + 1])) < 0) return 125;
            next += 2;
        }
    }
    kill(child, SIGKILL);
    return 125;
}
