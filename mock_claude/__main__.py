"""The command `mock_claude`, also `python -m mock_claude`."""

import os
import sys

from mock_claude import VERSION

HELP = """Usage: claude [options] [command] [prompt]

Claude Code - starts an interactive session by default, use -p/--print for non-interactive output

(This is mock_claude: see mock_claude --mock-help)
"""


def main() -> None:
    """Run the process and leave with its exit code."""
    argv = sys.argv[1:]
    if argv and argv[0] in ("--version", "-v"):
        sys.stdout.write(f"{VERSION} (Claude Code)\n")
        return
    code = _run(argv)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # nothing is left to clean up, and a stuck reader must not delay the end


def _run(argv: list[str]) -> int:
    from mock_claude import flags, machine

    try:
        options = flags.parse(argv)
        if options.has("version"):
            sys.stdout.write(f"{VERSION} (Claude Code)\n")
            return 0
        if options.has("help"):
            sys.stdout.write(HELP)
            return 0
        if options.has("mock-help"):
            from mock_claude import manual

            sys.stdout.write(manual.text())
            return 0
        flags.check(options)
        return _start(options, argv)
    except flags.UsageError as error:
        machine.complain(str(error))
        return 1


def _start(options: object, argv: list[str]) -> int:
    from mock_claude import loop, machine, scenario, setup
    from mock_claude.flags import Options

    if not isinstance(options, Options):
        raise TypeError(options)
    cli = setup.build(options, argv)
    try:
        return loop.run(cli)
    except scenario.ScenarioError as error:
        machine.complain(f"mock_claude: {error}")
        cli.wire.flush(1.0)
        return 1


if __name__ == "__main__":
    main()
