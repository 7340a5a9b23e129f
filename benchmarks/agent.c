/* A stand-in for Claude that prints at a given pace, and costs next to nothing: `agent [flags of Claude]`.

   It reads stream-json: to a user's message with `bench: agent=A events=N rate=R size=S at=NS linger=MS` in it, it
   prints `init`, from the time NS on N messages of about S bytes, R of them a second (0: flat out), waits MS, and prints
   the result. Each message has the text `agent=A n=1,2,3... t=NS`: its number, and when it was made. Times are those of
   CLOCK_MONOTONIC. It ends with its input. */

#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 1 << 18, AT_ONCE = 16, SIZE_MAX_ = 16384 };

static char out[ROOM], padding[SIZE_MAX_ + 1], session[64];

static long now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000L + at.tv_nsec;
}

static void wait_until(long at_ns) {
    struct timespec at = {at_ns / 1000000000L, at_ns % 1000000000L};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL)) continue;
}

static void print(size_t size) {
    for (size_t at = 0; at < size;) {
        ssize_t some = write(1, out + at, size - at);
        if (some <= 0) exit(0); /* nobody listens any more */
        at += (size_t)some;
    }
}

static long number_after(const char *line, const char *key, long otherwise) {
    const char *at = strstr(line, key);
    return at ? atol(at + strlen(key)) : otherwise;
}

static size_t message(char *to, long agent, long n, const char *text) {
    return (size_t)sprintf(to,
        "{\"type\":\"assistant\",\"message\":{\"id\":\"msg_%ld_%ld\",\"type\":\"message\",\"role\":\"assistant\","
        "\"model\":\"claude-sonnet-4-5\",\"content\":[{\"type\":\"text\",\"text\":\"agent=%ld n=%ld t=%ld %s\"}],"
        "\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":9,\"output_tokens\":9}},"
        "\"parent_tool_use_id\":null,\"session_id\":\"%s\",\"uuid\":\"00000000-0000-4000-8000-%012ld\"}\n",
        agent, n, agent, n, now_ns(), text, session, n);
}

static void play(const char *asked) {
    long agent = number_after(asked, "agent=", 0), events = number_after(asked, "events=", 1);
    long rate = number_after(asked, "rate=", 0), size = number_after(asked, "size=", 1000);
    long linger_ms = number_after(asked, "linger=", 0);
    print((size_t)sprintf(out,
        "{\"type\":\"system\",\"subtype\":\"init\",\"cwd\":\"/\",\"session_id\":\"%s\",\"tools\":[],\"mcp_servers\":[],"
        "\"model\":\"claude-sonnet-4-5\",\"permissionMode\":\"default\",\"slash_commands\":[],\"apiKeySource\":\"none\","
        "\"claude_code_version\":\"2.1.329\",\"output_style\":\"default\",\"agents\":[],\"skills\":[],\"plugins\":[],"
        "\"uuid\":\"00000000-0000-4000-8000-000000000000\"}\n", session));
    long rest = size - (long)message(out, agent, events, "");
    rest = rest < 0 ? 0 : rest > SIZE_MAX_ ? SIZE_MAX_ : rest;
    memset(padding, 'x', (size_t)rest);
    padding[rest] = 0;
    wait_until(number_after(asked, " at=", 0));
    long begun = now_ns();
    for (long n = 1; n <= events;) {
        long due = rate ? (now_ns() - begun) * rate / 1000000000L : n + AT_ONCE - 1;
        if (due < n) {
            wait_until(begun + n * 1000000000L / rate + 1);
            continue;
        }
        size_t filled = 0;
        for (; n <= due && n <= events && filled < ROOM - 2 * SIZE_MAX_; n++) filled += message(out + filled, agent, n, padding);
        print(filled);
    }
    wait_until(now_ns() + linger_ms * 1000000L);
    print((size_t)sprintf(out,
        "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"duration_ms\":1,\"duration_api_ms\":1,"
        "\"num_turns\":1,\"result\":\"done\",\"session_id\":\"%s\",\"total_cost_usd\":0.001,"
        "\"usage\":{\"input_tokens\":9,\"output_tokens\":9},\"modelUsage\":{},\"permission_denials\":[],"
        "\"uuid\":\"00000000-0000-4000-8000-999999999999\"}\n", session));
}

static void answer(const char *asked) {
    const char *at = strstr(asked, "\"request_id\"");
    char id[256] = "";
    if (!at || sscanf(at + 12, " : \"%255[^\"]", id) != 1) return;
    print((size_t)sprintf(out,
        "{\"type\":\"control_response\",\"response\":{\"subtype\":\"success\",\"request_id\":\"%s\",\"response\":{"
        "\"commands\":[],\"models\":[],\"account\":{},\"output_style\":\"default\",\"available_output_styles\":[]}}}\n", id));
}

static void name_session(int argc, char **argv) {
    unsigned char random[16];
    for (int i = 1; i < argc; i++)
        for (int flag = 0; flag < 2; flag++) {
            const char *name = flag ? "--resume" : "--session-id";
            size_t length = strlen(name);
            if (strncmp(argv[i], name, length)) continue;
            if (argv[i][length] == '=') snprintf(session, sizeof session, "%s", argv[i] + length + 1);
            else if (i + 1 < argc) snprintf(session, sizeof session, "%s", argv[i + 1]);
            return;
        }
    if (getrandom(random, sizeof random, 0) != sizeof random) exit(1);
    for (int i = 0, at = 0; i < 16; i++)
        at += sprintf(session + at, "%02x%s", i == 6 ? 0x40 | (random[i] & 15) : i == 8 ? 0x80 | (random[i] & 63) : random[i],
            i == 3 || i == 5 || i == 7 || i == 9 ? "-" : "");
}

int main(int argc, char **argv) {
    if (argc > 1 && (!strcmp(argv[1], "-v") || !strcmp(argv[1], "--version"))) return puts("2.1.329 (Claude Code)") < 0;
    name_session(argc, argv);
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) {
        if (strstr(line, "\"control_request\"")) answer(line);
        else if (strstr(line, "bench: ")) play(line);
    }
    return 0;
}
