/* Moves a simulated line: mover PULL LOG COUNT PAUSE_US. Writes pull-up and pull-down to the file PULL in turn, COUNT
   times, PAUSE_US microseconds apart; a line "BEFORE LEVEL AFTER" for each to LOG, with the times around the write in
   nanoseconds: this program may be interrupted between them. */
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
        struct timespec before, after;
        clock_gettime(CLOCK_REALTIME, &before);
        if (pwrite(line, level, strlen(level), 0) < 0) return 1;
        clock_gettime(CLOCK_REALTIME, &after);
        fprintf(log, "%lld %d %lld\n", before.tv_sec * 1000000000LL + before.tv_nsec, (int)(1 - n % 2),
                after.tv_sec * 1000000000LL + after.tv_nsec);
        if (pause) usleep(pause);
    }
    return fclose(log) ? 1 : 0;
}
