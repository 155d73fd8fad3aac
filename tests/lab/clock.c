/* A host whose clock is wrong: loaded by every dynamic program of it (/etc/ld.so.preload). */
typedef struct { long seconds, parts; } moment;
extern long syscall(long number, ...);
extern int open(const char *path, int flags, ...);
extern long read(int file, void *to, unsigned long size);
extern int close(int file);

enum { SYS_gettimeofday = 96, SYS_clock_gettime = 228, REALTIME = 0, REALTIME_COARSE = 5 };

static long ahead(void)
{
    char text[32];
    long found = 0, at, size, sign = 1;
    int file = open("/etc/lab-clock", 0);
    if (file < 0)
        return 0;
    size = read(file, text, sizeof text);
    close(file);
    for (at = 0; at < size; at++)
        if (text[at] == '-')
            sign = -1;
        else if (text[at] >= '0' && text[at] <= '9')
            found = found * 10 + text[at] - '0';
    return sign * found;
}

int clock_gettime(int clock, moment *now)
{
    long code = syscall(SYS_clock_gettime, clock, now);
    if (code == 0 && (clock == REALTIME || clock == REALTIME_COARSE))
        now->seconds += ahead();
    return code;
}

int gettimeofday(moment *now, void *zone)
{
    long code = syscall(SYS_gettimeofday, now, zone);
    if (code == 0 && now)
        now->seconds += ahead();
    return code;
}

long time(long *to)
{
    moment now;
    clock_gettime(REALTIME, &now);
    if (to)
        *to = now.seconds;
    return now.seconds;
}
