/* Moves a simulated line: mover PULL LOG COUNT PAUSE_US. Writes pull-up and pull-down to the file PULL in turn, COUNT
   times, PAUSE_US microseconds apart; a line "NANOSECONDS LEVEL" for each to LOG, with the time before the write. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc != 5) return 64;
    int line = open(argv[1], O_WRONLY);
    FILE *log = fopen(argv[2], "a");
    if (line < 0 || !log) return 1;
    long count = atol(argv[3]), pause = atol(argv[4]);
    for (long n = 0; n < count; n++) {
        const char *level = n % 2 ? "pull-down" : "pull-up";
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        if (pwrite(line, level, strlen(level), 0) < 0) return 1;
        fprintf(log, "%lld %d\n", now.tv_sec * 1000000000LL + now.tv_nsec, (int)(1 - n % 2));
        if (pause) usleep(pause);
    }
    return fclose(log) ? 1 : 0;
}
