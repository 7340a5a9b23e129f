"""A child that does what it reads: the real counterpart of `echo` in worlds.py. Standard library only."""

import os
import signal
import sys


def main() -> None:
    if "deaf" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(1, b"ready\n")
    buffer = b""
    while part := os.read(0, 1 << 16):
        buffer += part
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            obey(line)
    while "stays" in sys.argv:
        signal.pause()


def obey(line: bytes) -> None:
    verb, _, rest = line.partition(b" ")
    if verb == b"quit":
        os._exit(int(rest))
    elif verb == b"spam":
        write(1, b"x" * int(rest))
    elif verb == b"err":
        write(2, rest + b"\n")
    elif verb == b"leave":
        if not os.fork():
            os.setsid()
            while True:
                signal.pause()
        write(1, b"left\n")
    else:
        write(1, b"got " + line[:100] + b" %d\n" % len(line))


def write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


main()
