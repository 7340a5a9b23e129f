/* Many WebSocket viewers in one process, quick enough not to be what is measured.

     crowd KIND PORT READERS STALLED EVENTS TOKEN STREAM [AGENTS]

   KIND hivectl: says hello, authenticates and subscribes as every client must; nats: NATS over WebSocket,
   subject STREAM; plain: a WebSocket that only listens. Connects READERS that read and STALLED that do not,
   over TCP to 127.0.0.1, one after the other, and prints a line of JSON: how long that took each.

   Then it reads until each reader has seen EVENTS events, and prints a line of JSON: how many there were, how long
   it took from the first event's being made, and their ages when they came. Each viewer checks that its numbers
   (`"seq":`) are 1, 2, 3 ... without a gap; `"t":` is when an event was made, in nanoseconds of CLOCK_MONOTONIC.

   With AGENTS the events are those of agent.c, whatever the server wraps them in: each of so many agents numbers its
   own (`agent=A n=1,2,3 ... t=NS` in the text), and EVENTS are all of them together.

   With STALLED it now waits for a line of input. Then the stalled ones read on: the even ones where they are, the
   odd ones (hivectl) by connecting anew and resuming from what they have. A third line tells how whole that was.
   A viewer that is closed, sees a gap, or waits PATIENCE_S for nothing makes `broken` more than 0. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 1 << 19, PATIENCE_S = 10, MOST_AGES = 1 << 23 };
enum { TICK_NS = 100 }; /* of ages: 32 bits of them are seven minutes */
enum kind { HIVECTL, NATS, PLAIN };

struct viewer {
    int fd;
    long seq; /* the last one seen */
    int broken;
    char *rest; /* an unfinished frame */
    size_t rest_size;
    char *line; /* nats: unfinished protocol text */
    size_t line_size;
    size_t left; /* nats: bytes to come of a frame; its frames may be megabytes */
    char epoch[64];
    long *agents; /* the last one seen of each */
};

static enum kind kind;
static int port;
static long events, agents;
static const char *token, *stream;
static char buffer[ROOM * 2], text[ROOM * 3];
static uint32_t *ages;
static long ages_count, deliveries, begun_ns;

static long now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000L + at.tv_nsec;
}

static void die(const char *why) {
    fprintf(stderr, "crowd: %s (errno: %s)\n", why, strerror(errno));
    exit(1);
}

static void keep(char **kept, size_t *size, const char *data, size_t length) {
    if (length && !(*kept = realloc(*kept, length))) die("no memory");
    memcpy(*kept, data, length);
    *size = length;
}

/* --- what comes ------------------------------------------------------------------------------------------- */

static long number_after(const char *data, size_t size, const char *key, size_t *hint) {
    size_t length = strlen(key);
    const char *at;
    if (*hint + length < size && !memcmp(data + *hint, key, length)) at = data + *hint;
    else if (!(at = memmem(data, size, key, length))) return -1;
    *hint = (size_t)(at - data);
    long found = 0;
    for (at += length; at < data + size && *at >= '0' && *at <= '9'; at++) found = found * 10 + (*at - '0');
    return found;
}

static void note_age(long made) {
    if (!begun_ns) begun_ns = made;
    long age = (now_ns() - made) / TICK_NS;
    if (ages_count < MOST_AGES) ages[ages_count++] = age > UINT32_MAX ? UINT32_MAX : (uint32_t)age;
}

static void on_agents_event(struct viewer *viewer, const char *data, size_t size) {
    static size_t hint;
    long agent = number_after(data, size, "\"agent=", &hint);
    if (agent < 0) return;
    if (agent >= agents) die("an agent nobody knows");
    const char *at = data + hint, *end = data + size;
    size_t none = 0;
    long n = number_after(at, (size_t)(end - at), " n=", &none);
    long *last = &viewer->agents[agent];
    if (n != *last + 1) {
        if (n <= *last) return;
        viewer->broken = 1;
    }
    *last = n;
    viewer->seq++;
    deliveries++;
    note_age(number_after(at, (size_t)(end - at), " t=", &none));
}

static void on_event(struct viewer *viewer, const char *data, size_t size) {
    if (agents) {
        on_agents_event(viewer, data, size);
        return;
    }
    static size_t seq_hint, time_hint;
    static const char head[] = "{\"jsonrpc\":\"2.0\",\"method\":\"event\"";
    if (kind == HIVECTL && (size < sizeof head || memcmp(data, head, sizeof head - 1))) return;
    long seq = number_after(data, size, "\"seq\":", &seq_hint);
    if (seq < 0) return;
    if (seq != viewer->seq + 1) {
        if (seq <= viewer->seq) return; /* shown again after a resume */
        viewer->broken = 1;
    }
    viewer->seq = seq;
    deliveries++;
    if (begun_ns && ages_count == MOST_AGES) return;
    note_age(number_after(data, size, "\"t\":", &time_hint));
}

static void send_frame(struct viewer *viewer, int opcode, const char *data, size_t size) {
    unsigned char frame[1024] = {0x80 | opcode};
    size_t at = 2;
    if (size < 126) frame[1] = 0x80 | size;
    else frame[1] = 0x80 | 126, frame[2] = size >> 8, frame[3] = size & 255, at = 4;
    at += 4; /* a mask of zeros */
    if (at + size > sizeof frame) die("a request is too long");
    memcpy(frame + at, data, size);
    if (send(viewer->fd, frame, at + size, MSG_NOSIGNAL) != (ssize_t)(at + size)) viewer->broken = 1;
}

/* NATS text: complete messages are taken, the rest is kept. */
static void on_nats(struct viewer *viewer, size_t size) {
    char *at = text, *end = text + size;
    while (at < end) {
        char *stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop) break;
        if (!memcmp(at, "MSG ", 4)) {
            char *digits = stop - 1;
            while (digits[-1] != ' ') digits--;
            size_t length = (size_t)atol(digits);
            if (stop + 1 + length + 2 > end) break;
            on_event(viewer, stop + 1, length);
            at = stop + 1 + length + 2;
        } else {
            if (!memcmp(at, "PING", 4)) send_frame(viewer, 2, "PONG\r\n", 6);
            if (!memcmp(at, "-ERR", 4)) viewer->broken = 1;
            at = stop + 1;
        }
    }
    keep(&viewer->line, &viewer->line_size, at, (size_t)(end - at));
}

/* Part of a frame of NATS text; returns how many bytes that were. */
static size_t on_part(struct viewer *viewer, const char *data, size_t size, size_t *line) {
    size_t length = viewer->left < size ? viewer->left : size;
    memcpy(text + *line, data, length);
    *line += length;
    viewer->left -= length;
    return length;
}

/* Frames at `data`; returns how many bytes they took. */
static size_t on_frames(struct viewer *viewer, unsigned char *data, size_t size, size_t *line) {
    size_t at = on_part(viewer, (char *)data, size, line);
    while (size - at >= 2) {
        size_t head = 2, length = data[at + 1] & 127;
        if (length == 126) head = 4;
        if (length == 127) head = 10;
        if (size - at < head) break;
        if (head > 2) {
            length = 0;
            for (size_t i = 2; i < head; i++) length = length << 8 | data[at + i];
        }
        char *payload = (char *)data + at + head;
        int opcode = data[at] & 15;
        if (kind == NATS && opcode < 8) {
            at += head;
            viewer->left = length;
            at += on_part(viewer, payload, size - at, line);
            continue;
        }
        if (size - at - head < length) break;
        switch (opcode) {
        case 8: viewer->broken = 1; break;
        case 9: send_frame(viewer, 10, payload, length); break;
        case 10: break;
        default: on_event(viewer, payload, length);
        }
        at += head + length;
    }
    return at;
}

static int read_some(struct viewer *viewer) {
    memcpy(buffer, viewer->rest, viewer->rest_size);
    ssize_t size = recv(viewer->fd, buffer + viewer->rest_size, ROOM, MSG_DONTWAIT);
    if (size < 0 && errno == EAGAIN) return 0;
    if (size <= 0) {
        viewer->broken = 1;
        return 0;
    }
    size_t whole = viewer->rest_size + (size_t)size, line = viewer->line_size;
    if (line) memcpy(text, viewer->line, line);
    size_t taken = on_frames(viewer, (unsigned char *)buffer, whole, &line);
    if (kind == NATS) on_nats(viewer, line);
    keep(&viewer->rest, &viewer->rest_size, buffer + taken, whole - taken);
    if (whole - taken > ROOM) die("a frame is too long");
    return 1;
}

/* --- connecting ------------------------------------------------------------------------------------------- */

/* Until `mark` has come, in plain bytes; what follows it is kept only for hivectl's last one. */
static char *await_text(struct viewer *viewer, const char *mark) {
    static char seen[65536];
    size_t size = 0;
    for (;;) {
        struct pollfd poller = {viewer->fd, POLLIN, 0};
        if (poll(&poller, 1, PATIENCE_S * 1000) <= 0) die(mark);
        ssize_t more = recv(viewer->fd, seen + size, sizeof seen - 1 - size, 0);
        if (more <= 0) die(mark);
        size += (size_t)more;
        if (memmem(seen, size, mark, strlen(mark))) break;
        if (size == sizeof seen - 1) die("too much was said");
    }
    for (size_t i = 0; i < size; i++)
        if (!seen[i]) seen[i] = ' ';
    seen[size] = 0;
    return seen;
}

static long open_viewer(struct viewer *viewer) {
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, "127.0.0.1", &where.sin_addr);
    viewer->fd = socket(AF_INET, SOCK_STREAM, 0);
    int on = 1;
    setsockopt(viewer->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(viewer->fd, (struct sockaddr *)&where, sizeof where)) die("cannot connect");
    char request[512];
    int size = snprintf(request, sizeof request,
        "GET /ws HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
        port, kind == HIVECTL ? "Sec-WebSocket-Protocol: hivectl.v1\r\n" : "");
    if (send(viewer->fd, request, (size_t)size, MSG_NOSIGNAL) != size) die("cannot ask");
    const char *mark = kind == HIVECTL ? "\"hello\"" : kind == NATS ? "INFO {" : "\r\n\r\n";
    if (memcmp(await_text(viewer, mark), "HTTP/1.1 101", 12)) die("the upgrade was refused");
    return now_ns();
}

static void log_in(struct viewer *viewer) {
    char request[512];
    int size = snprintf(request, sizeof request,
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"auth\",\"params\":{\"token\":\"%s\","
        "\"client\":{\"name\":\"crowd\",\"version\":\"1\"},\"protocol\":1}}", token);
    send_frame(viewer, 1, request, (size_t)size);
    if (!strstr(await_text(viewer, "\"id\":1"), "\"result\"")) die("not authenticated");
    char since[128] = "\"now\"";
    if (viewer->epoch[0])
        snprintf(since, sizeof since, "{\"epoch\":\"%s\",\"seq\":%ld}", viewer->epoch, viewer->seq);
    size = snprintf(request, sizeof request,
        "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"subscribe\",\"params\":{\"streams\":[\"%s\"],\"since\":%s}}",
        stream, since);
    send_frame(viewer, 1, request, (size_t)size);
    if (viewer->epoch[0]) return; /* what comes now is the replay */
    char *epoch = strstr(await_text(viewer, "caught_up"), "\"epoch\":\"");
    if (!epoch && agents) return; /* all streams: it has no place to resume from */
    if (!epoch) die("not subscribed");
    sscanf(epoch, "\"epoch\":\"%63[^\"]", viewer->epoch);
}

static void listen_in(struct viewer *viewer) {
    char request[256];
    int size = snprintf(request, sizeof request,
        "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"c\",\"version\":\"1\",\"protocol\":1}\r\n"
        "SUB %s 1\r\nPING\r\n", stream);
    send_frame(viewer, 2, request, (size_t)size);
    await_text(viewer, "PONG");
}

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static double part_us(uint32_t *found, long count, double part) {
    if (!count) return 0;
    qsort(found, (size_t)count, sizeof *found, by_size);
    return found[(long)((double)(count - 1) * part)] * (TICK_NS / 1000.0);
}

static void seat(struct viewer *viewers, int count) {
    uint32_t *opened = calloc((size_t)count, sizeof *opened), *seated = calloc((size_t)count, sizeof *seated);
    for (int i = 0; i < count; i++) {
        long begun = now_ns();
        opened[i] = (uint32_t)((open_viewer(&viewers[i]) - begun) / TICK_NS);
        if (kind == HIVECTL) log_in(&viewers[i]);
        if (kind == NATS) listen_in(&viewers[i]);
        seated[i] = (uint32_t)((now_ns() - begun) / TICK_NS);
    }
    printf("{\"connect_p50_us\":%.1f,\"connect_p99_us\":%.1f,\"seated_p50_us\":%.1f,\"seated_p99_us\":%.1f}\n",
        part_us(opened, count, 0.5), part_us(opened, count, 0.99),
        part_us(seated, count, 0.5), part_us(seated, count, 0.99));
    fflush(stdout);
    free(opened), free(seated);
}

/* --- reading ---------------------------------------------------------------------------------------------- */

static void watch(struct viewer *viewers, int count) {
    int poller = epoll_create1(0), waiting = 0, silent = 0;
    struct epoll_event met[256];
    for (int i = 0; i < count; i++) {
        struct epoll_event wanted = {EPOLLIN, {.ptr = &viewers[i]}};
        if (viewers[i].seq >= events || viewers[i].broken) continue;
        epoll_ctl(poller, EPOLL_CTL_ADD, viewers[i].fd, &wanted);
        waiting++;
    }
    while (waiting && !silent) {
        int some = epoll_wait(poller, met, 256, PATIENCE_S * 1000);
        if (some < 0 && errno == EINTR) continue;
        silent = some <= 0;
        for (int i = 0; i < some; i++) {
            struct viewer *viewer = met[i].data.ptr;
            read_some(viewer);
            if (viewer->seq < events && !viewer->broken) continue;
            epoll_ctl(poller, EPOLL_CTL_DEL, viewer->fd, NULL);
            waiting--;
        }
    }
    close(poller);
}

static void report(struct viewer *viewers, int count) {
    double took_s = (double)(now_ns() - begun_ns) / 1e9;
    long seen = 0, broken = 0, fewest = events;
    for (int i = 0; i < count; i++) {
        seen += viewers[i].seq;
        broken += viewers[i].broken || viewers[i].seq != events;
        if (viewers[i].seq < fewest) fewest = viewers[i].seq;
    }
    printf("{\"deliveries\":%ld,\"took_s\":%.6f,\"seen\":%ld,\"fewest\":%ld,\"broken\":%ld,"
           "\"p50_us\":%.1f,\"p99_us\":%.1f}\n",
        deliveries, took_s, seen, fewest, broken, part_us(ages, ages_count, 0.5), part_us(ages, ages_count, 0.99));
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc != 8 && argc != 9) die("KIND PORT READERS STALLED EVENTS TOKEN STREAM [AGENTS]");
    kind = !strcmp(argv[1], "hivectl") ? HIVECTL : !strcmp(argv[1], "nats") ? NATS : PLAIN;
    port = atoi(argv[2]);
    int readers = atoi(argv[3]), stalled = atoi(argv[4]);
    events = atol(argv[5]);
    token = argv[6], stream = argv[7];
    agents = argc == 9 ? atol(argv[8]) : 0;
    ages = calloc(MOST_AGES, sizeof *ages);
    struct viewer *viewers = calloc((size_t)(readers + stalled), sizeof *viewers);
    if (!ages || !viewers) die("no memory");
    for (int i = 0; i < readers + stalled; i++)
        if (!(viewers[i].agents = calloc((size_t)agents + 1, sizeof(long)))) die("no memory");
    seat(viewers, readers + stalled);
    watch(viewers, readers);
    report(viewers, readers);
    char go[8];
    if (!stalled || !fgets(go, sizeof go, stdin)) return 0;
    struct viewer *late = viewers + readers;
    for (int i = 1; kind == HIVECTL && i < stalled; i += 2) {
        close(late[i].fd);
        late[i].broken = 0, late[i].rest_size = 0;
        open_viewer(&late[i]);
        log_in(&late[i]);
    }
    watch(late, stalled);
    report(late, stalled);
    return 0;
}
