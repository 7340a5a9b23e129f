/* Asks for the same small thing over and over, on connections that stay.

     get PORT CONNECTIONS REQUESTS PATH

   Connects to 127.0.0.1, sends GET PATH on each connection, and the next one when the answer is there, REQUESTS in all.
   Prints a line of JSON: how many answers were 200 and whole, how long all took, and how long one took. An answer must
   have a Content-Length. It ends with a code other than 0 when an answer is not as it should be, a connection ends, or
   nothing comes for PATIENCE_MS. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 1 << 14, PATIENCE_MS = 10000, MOST_CONNECTIONS = 1024, MOST_REQUESTS = 10000000 };

struct asker {
    int fd;
    long asked_ns;
    size_t size;
    char held[ROOM + 1];
};

static char request[1024];
static size_t request_size;

static long now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000L + at.tv_nsec;
}

static void die(const char *why) {
    fprintf(stderr, "get: %s (errno: %s)\n", why, strerror(errno));
    exit(1);
}

static void ask(struct asker *asker) {
    asker->size = 0;
    asker->asked_ns = now_ns();
    if (send(asker->fd, request, request_size, MSG_NOSIGNAL) != (ssize_t)request_size) die("a request was not taken");
}

/* Whether the answer is whole now. */
static int take(struct asker *asker) {
    ssize_t more = recv(asker->fd, asker->held + asker->size, ROOM - asker->size, 0);
    if (more <= 0) die(asker->size < ROOM ? "a connection ended" : "an answer is too long");
    asker->size += (size_t)more;
    asker->held[asker->size] = 0;
    char *end = strstr(asker->held, "\r\n\r\n");
    if (!end) return 0;
    if (strncmp(asker->held, "HTTP/1.1 200", 12)) die("an answer is not 200");
    char *length = strcasestr(asker->held, "\r\ncontent-length:");
    if (!length || length > end) die("an answer has no length");
    size_t whole = (size_t)(end + 4 - asker->held) + strtoul(length + 17, NULL, 10);
    if (asker->size > whole) die("an answer is longer than it says");
    return asker->size == whole;
}

static int by_size(const void *a, const void *b) {
    long one = *(const long *)a, other = *(const long *)b;
    return (one > other) - (one < other);
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    int port = atoi(argv[1]), count = atoi(argv[2]), on = 1;
    long requests = atol(argv[3]), sent = 0, answered = 0;
    if (count < 1 || count > MOST_CONNECTIONS || requests < count || requests > MOST_REQUESTS) return 2;
    request_size = (size_t)snprintf(request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: */*\r\n\r\n", argv[4], port);
    if (request_size >= sizeof request) return 2;
    struct sockaddr_in there = {AF_INET, htons((uint16_t)port), {htonl(INADDR_LOOPBACK)}, {0}};
    struct asker *askers = calloc((size_t)count, sizeof *askers);
    long *took = malloc((size_t)requests * sizeof *took);
    int poller = epoll_create1(0);
    if (!askers || !took || poller < 0) die("no memory");
    for (int i = 0; i < count; i++) {
        askers[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(askers[i].fd, (struct sockaddr *)&there, sizeof there)) die("nobody listens");
        setsockopt(askers[i].fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event wanted = {EPOLLIN, {.ptr = &askers[i]}};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, askers[i].fd, &wanted)) die("epoll_ctl");
    }
    long begun = now_ns();
    for (; sent < count; sent++) ask(&askers[sent]);
    while (answered < requests) {
        struct epoll_event ready[64];
        int found = epoll_wait(poller, ready, 64, PATIENCE_MS);
        if (found <= 0) die("no answer");
        for (int i = 0; i < found; i++) {
            struct asker *asker = ready[i].data.ptr;
            if (!take(asker)) continue;
            took[answered++] = now_ns() - asker->asked_ns;
            if (sent < requests) ask(asker), sent++;
        }
    }
    double took_s = (double)(now_ns() - begun) / 1e9;
    qsort(took, (size_t)requests, sizeof *took, by_size);
    printf("{\"requests\": %ld, \"took_s\": %.6f, \"p50_us\": %.1f, \"p99_us\": %.1f}\n", answered, took_s,
        (double)took[requests / 2] / 1000, (double)took[requests * 99 / 100] / 1000);
    return 0;
}
