/* Tries what a service of this kind must not be able to do, and a few things that it must; a line each: the name, then
 * "ok" or the reason. Run in the same sandbox as the agent, and beside it as the same user outside of any. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void say(const char *name, int done) { printf("%s %s\n", name, done >= 0 ? "ok" : strerrorname_np(errno)); }

static void opened(const char *name, const char *path, int flags) {
    int file = open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
    say(name, file);
    if (file >= 0) close(file);
}

static void connected(const char *name, int family, int type, int protocol) {
    int made = socket(family, type, protocol);
    say(name, made);
    if (made >= 0) close(made);
}

int main(void) {
    opened("write-usr", "/usr/probe", O_CREAT | O_WRONLY);
    opened("write-configuration", "/etc/outstation/probe", O_CREAT | O_WRONLY);
    opened("write-shared-tmp", "/tmp/of-others/probe", O_CREAT | O_WRONLY);
    opened("write-kernel-setting", "/proc/sys/kernel/panic", O_WRONLY);
    opened("read-shadow", "/etc/shadow", O_RDONLY);
    opened("read-other-user", "/home/anna/secret", O_RDONLY);
    opened("read-other-process", "/proc/1/status", O_RDONLY);
    opened("read-kernel-log", "/dev/probe-kmsg", O_RDONLY);
    opened("device-not-granted", "/dev/probe-disk", O_RDONLY);
    opened("device-serial", "/dev/ttyS1", O_RDWR);
    opened("device-gpio", "/dev/gpiochip0", O_RDWR);
    opened("read-statistics", "/proc/stat", O_RDONLY);
    opened("write-own-state", "/var/lib/outstation/probe", O_CREAT | O_RDWR);
    say("set-user-id-file", chmod("/var/lib/outstation/probe", 04755));
    unlink("/var/lib/outstation/probe");

    connected("socket-raw", AF_INET, SOCK_RAW, 1);
    connected("socket-packet", AF_PACKET, SOCK_RAW, 0);
    connected("socket-netlink", AF_NETLINK, SOCK_RAW, 0);
    connected("socket-tcp", AF_INET, SOCK_STREAM, 0);
    connected("socket-tcp6", AF_INET6, SOCK_STREAM, 0);

    void *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    say("executable-memory", mprotect(code, 4096, PROT_READ | PROT_EXEC));

    struct timespec now = {.tv_sec = 1};
    say("set-clock", clock_settime(CLOCK_REALTIME, &now));
    say("set-host-name", sethostname("probe", 5));
    say("mount", mount("none", "/tmp", "tmpfs", 0, NULL));
    say("user-namespace", unshare(CLONE_NEWUSER));
    say("become-root", setuid(0));
    struct sched_param priority = {.sched_priority = 1};
    say("realtime", sched_setscheduler(0, SCHED_FIFO, &priority));
    say("personality", personality(ADDR_NO_RANDOMIZE));
    say("load-module", (int)syscall(SYS_init_module, NULL, 0, ""));
    say("trace-other", (int)ptrace(PTRACE_SEIZE, 1, NULL, NULL));
    return 0;
}
