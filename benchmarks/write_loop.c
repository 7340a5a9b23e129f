/* The plain way to tell everybody: one blocking write for each message and each viewer.

     write_loop VIEWERS EVENTS RATE SIZE

   Listens on a free port of 127.0.0.1 and prints it, takes VIEWERS WebSocket connections (their handshake is not
   checked), waits for a line of input, and sends EVENTS messages of SIZE bytes to all: RATE a second, or flat out
   when RATE is 0. Then it waits for the end of its input. */

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char welcome[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: unchecked\r\n\r\n";

static long now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000L + at.tv_nsec;
}

static int welcome_viewer(int listener) {
    int viewer = accept(listener, NULL, NULL), on = 1;
    setsockopt(viewer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    char head[2048];
    size_t size = 0;
    while (size < 4 || memcmp(head + size - 4, "\r\n\r\n", 4)) {
        ssize_t more = recv(viewer, head + size, sizeof head - size, 0);
        if (more <= 0) exit(1);
        size += (size_t)more;
    }
    send(viewer, welcome, sizeof welcome - 1, MSG_NOSIGNAL);
    return viewer;
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    int count = atoi(argv[1]), size = atoi(argv[4]);
    long events = atol(argv[2]), rate = atol(argv[3]);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof here;
    int listener = socket(AF_INET, SOCK_STREAM, 0), *viewers = calloc((size_t)count, sizeof *viewers);
    char *frame = malloc((size_t)size + 4), go[8];
    if (!viewers || !frame || size < 126 || size > 65535) return 2;
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 512)) return 1;
    getsockname(listener, (struct sockaddr *)&here, &length);
    printf("%d\n", ntohs(here.sin_port));
    fflush(stdout);
    for (int i = 0; i < count; i++) viewers[i] = welcome_viewer(listener);
    if (!fgets(go, sizeof go, stdin)) return 0;
    memset(frame, 'x', (size_t)size + 4);
    frame[0] = (char)0x81, frame[1] = 126, frame[2] = (char)(size >> 8), frame[3] = (char)(size & 255);
    memcpy(frame + 4 + size - 2, "\"}", 2);
    long begun = now_ns();
    for (long seq = 1; seq <= events; seq++) {
        if (rate) {
            long due = begun + seq * 1000000000L / rate;
            struct timespec at = {due / 1000000000L, due % 1000000000L};
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
        }
        char head[100];
        int taken = snprintf(head, sizeof head, "{\"seq\":%ld,\"t\":%ld,\"text\":\"", seq, now_ns());
        memcpy(frame + 4, head, (size_t)taken);
        for (int i = 0; i < count; i++)
            if (send(viewers[i], frame, (size_t)size + 4, MSG_NOSIGNAL) != size + 4) return 1;
    }
    while (fgets(go, sizeof go, stdin)) continue;
    return 0;
}
