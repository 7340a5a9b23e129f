"""Process trees that do not want to die. `python -I -S hostile.py NAME HELD`; every process holds HELD open.

Says `ready` when the tree stands. Standard library only. Whoever is not killed ends by itself after LIFETIME_S:
a test that fails or is cut short must not leave a machine full of them.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time

HELD = sys.argv[2] if len(sys.argv) > 2 else ""
LIFETIME_S = 300.0
ENDS_AT = time.monotonic() + LIFETIME_S


def ready() -> None:
    os.write(1, b"ready\n")


def stay() -> None:
    while time.monotonic() < ENDS_AT:
        time.sleep(1)
    os._exit(0)


def fork() -> bool:
    """True in the new process."""
    return os.fork() == 0


def deaf() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def daemon(*, clean: bool = False) -> None:
    """Fork twice, leave the session; `clean` drops the environment too."""
    if fork():
        os.setsid()
        if fork():
            if clean:
                program = [sys.executable, "-I", "-S", __file__, "stay", HELD]
                os.execve(sys.executable, program, {})
            stay()
        os._exit(0)
    os.wait()


def hop(*, leave: bool) -> None:
    """Fork on and on, each parent ends at once."""
    if fork():
        while time.monotonic() < ENDS_AT:
            if leave:
                os.setsid()
            if not fork():
                os._exit(0)
        os._exit(0)


def wide() -> None:
    for _ in range(200):
        if fork():
            stay()


def deep() -> None:
    for level in range(52):
        if not fork():
            if level == 0:
                return
            stay()
        os.setsid()
    stay()


def other_subreaper() -> None:
    if fork():
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
        daemon(clean=True)
        stay()


def stopped() -> None:
    if fork():
        os.kill(os.getpid(), signal.SIGSTOP)
        stay()


def in_session(*, is_deaf: bool) -> None:
    if fork():
        os.setsid()
        if is_deaf:
            deaf()
        stay()


def namespaces() -> None:
    program = [sys.executable, "-I", "-S", __file__, "stay", HELD]
    subprocess.Popen(["unshare", "-Urpf", *program], close_fds=False)


def zombies() -> None:
    for _ in range(20):
        if fork():
            os._exit(0)


TREES = {
    "stay": lambda: None,
    "plain": lambda: fork() and stay(),
    "deaf": lambda: (deaf(), fork() and stay()),
    "stopped": stopped,
    "setsid": lambda: in_session(is_deaf=False),
    "deaf_setsid": lambda: in_session(is_deaf=True),
    "subreaper": other_subreaper,
    "daemon": daemon,
    "daemon_clean": lambda: daemon(clean=True),
    "hop": lambda: hop(leave=False),
    "hop_setsid": lambda: hop(leave=True),
    "wide": wide,
    "deep": deep,
    "namespaces": namespaces,
    "zombies": zombies,
}


def main() -> None:
    os.set_inheritable(os.open(HELD, os.O_RDONLY), True)
    TREES[sys.argv[1]]()
    if sys.argv[1] != "stay":
        ready()
    stay()


if __name__ == "__main__":
    main()
