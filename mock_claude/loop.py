"""The life of the process: where prompts come from, one turn after the other, and how it ends."""

import json
import os
import select

from mock_claude import (
    answers,
    control,
    events,
    ids,
    machine,
    money,
    scenario,
    sessions,
)
from mock_claude import wire as wires
from mock_claude.answers import Script
from mock_claude.cli import Cli, Fatal, Interrupted, Message, Signalled
from mock_claude.flags import UsageError
from mock_claude.machine import Json
from mock_claude.turn import Start, Turn

SIGINT = 2
STDIN_WAIT_S = 3.0
STDIN_LIMIT = 10 * 1024 * 1024
NO_PROMPT = (
    "Error: Input must be provided either through stdin or as a prompt argument when using --print"
)
BLANK_PROMPT = (
    "Error: Input contained only whitespace. Provide a prompt with text through stdin or as a "
    "prompt argument when using --print"
)


# -- the session


def open_session(cli: Cli) -> None:
    """Start, resume or fork the conversation. Raises UsageError; SystemExit when it is unknown."""
    options = cli.options
    given = options.value("session-id")
    if given and sessions.find(given):
        raise UsageError(f"Error: Session ID {given} is already in use.")
    stored = _stored_path(cli)
    is_fork = options.has("fork-session") and stored is not None
    own_id = os.path.basename(stored).removesuffix(".jsonl") if stored and not is_fork else ""
    session_id = given or own_id or _fresh_id(cli)
    is_kept = not options.has("no-session-persistence")
    cli.session = sessions.Session(session_id, cli.cwd, is_kept=is_kept)
    if stored:
        until = options.value("resume-session-at")
        cli.session.load(stored, until=until, is_fork=is_fork)
        cli.session.mend(cli.ids.uuid())
        cli.ledger.load(cli.session.cost)
        _keep_beginning(cli)
    if options.has("name"):
        cli.session.title = options.value("name")


def _keep_beginning(cli: Cli) -> None:
    """A resumed or forked conversation keeps its system prompts whatever is given, and its model unless
    another one is named."""
    began = cli.session.began
    if not began:
        return
    cli.system_prompts = {name: str(began[name]) for name in cli.system_prompts}
    if not cli.is_model_named:
        cli.model = str(began["model"])


def _fresh_id(cli: Cli) -> str:
    while True:
        session_id = cli.ids.uuid()
        if not os.path.exists(os.path.join(machine.project_dir(cli.cwd), f"{session_id}.jsonl")):
            return session_id


def _stored_path(cli: Cli) -> str | None:
    options = cli.options
    if options.has("resume"):
        wanted = options.value("resume")
        path = sessions.find(wanted)
        if path is None:
            _refuse_resume(cli, wanted)
        return path
    return sessions.latest(cli.cwd) if options.has("continue") else None


def _refuse_resume(cli: Cli, wanted: str) -> None:
    text = f"No conversation found with session ID: {wanted}"
    if cli.options.output_format == "stream-json":
        usage = money.usage(0, 0)
        cli.emit(events.refused_start(wanted, cli.ids.uuid(), usage, text))
        cli.wire.flush()
    raise UsageError(text)


# -- text input


def read_prompt(cli: Cli) -> str:
    """The prompt of the command line and of stdin. Raises UsageError."""
    given = cli.options.words[0] if cli.options.words else ""
    piped = _read_stdin()
    text = "\n".join(part for part in (given, piped) if part)
    if not text:
        raise UsageError(NO_PROMPT)
    if not text.strip():
        raise UsageError(BLANK_PROMPT)
    return text


def _read_stdin() -> str:
    try:
        if os.isatty(wires.STDIN):
            return ""
        if not select.select([wires.STDIN], [], [], STDIN_WAIT_S)[0]:
            machine.complain(
                "Warning: no stdin data received in 3s, proceeding without it. If piping from a "
                "slow command, redirect stdin explicitly: < /dev/null to skip, or wait longer."
            )
            return ""
        data = bytearray()
        while chunk := os.read(wires.STDIN, 1 << 16):
            data += chunk
            if len(data) > STDIN_LIMIT:
                raise UsageError(
                    "Error: piped stdin input exceeds 10MB. Write it to a file and reference the "
                    "path instead."
                )
    except OSError:
        return ""
    return data.decode("utf-8", "replace")


# -- turns


def script_for(cli: Cli, message: Message, number: int) -> Script:
    """What a message makes the mock do. Raises ScenarioError."""
    visible, directives = scenario.extract(message.text)
    given = machine.env("MOCK_CLAUDE_SCENARIO")
    if not directives and given:
        directives = scenario.load(given, turn=number)
    attached: list[str] = []
    if "@" in visible and not message.is_composed:
        from mock_claude import project

        attached = project.attach(cli, visible)
    return Script(visible, attached, scenario.flatten(directives))


def run_turn(cli: Cli, start: Start) -> None:
    """Run one turn from its messages to its result, and what hangs after it."""
    cli.is_turn_running = True
    cli.is_interrupted = False
    turn = Turn(cli, start)
    try:
        _run_turn(cli, turn)
    finally:
        cli.is_turn_running = False


def _run_turn(cli: Cli, turn: Turn) -> None:
    if cli.options.has("replay-user-messages"):
        for message in turn.messages[:-1]:
            cli.replay(message.text, message.uuid)
    for message in turn.messages:
        cli.lifecycle(message.uuid, "started")
    cli.state("running")
    slash = _slash_command(cli, turn)
    if slash:
        from mock_claude import slash as commands

        commands.run(turn, *slash)
        steps: list[Json] = []
    else:
        steps = _run_script(cli, turn)
    for message in turn.messages:
        cli.lifecycle(message.uuid, "completed")
    cli.state("idle")
    cli.is_turn_running = False
    hang = scenario.setting(steps, "hang_after_result")
    if hang:
        cli.wait(None if hang is True else float(str(hang)))


def _slash_command(cli: Cli, turn: Turn) -> tuple[str, str] | None:
    if not turn.messages or not turn.prompt.startswith("/"):
        return None
    if turn.messages[0].is_composed or cli.options.has("disable-slash-commands"):
        return None
    name, _, rest = turn.prompt[1:].partition(" ")
    return (name, rest.strip()) if name in ("clear", "cost", "compact", "config") else None


def _run_script(cli: Cli, turn: Turn) -> list[Json]:
    if turn.messages:
        scripts = [script_for(cli, message, cli.turn_count) for message in turn.messages]
        visible = "\n".join(script.visible for script in scripts)
        notes = [note for script in scripts for note in script.attached]
        script = Script(visible, notes, [step for s in scripts for step in s.steps])
    else:  # finished background work
        script = Script("", [], [{"text": "The background work has ended."}])
    seed = scenario.setting(script.steps, "seed")
    if isinstance(seed, int) and not cli.turn_count:
        reseed(cli, seed)
    cli.turn_count += 1
    try:
        answers.prepare(turn, script)
    except Interrupted:
        turn.finish(turn.abort())
        return script.steps
    begin(cli, turn)
    turn.play(script)
    return script.steps


def reseed(cli: Cli, seed: int) -> None:
    """Make all later ids repeatable, and the session's unless it was given or is resumed."""
    cli.ids = ids.Ids(seed)
    options = cli.options
    fixed = options.value("session-id") or options.has("resume") or options.has("continue")
    if not fixed:
        cli.session = sessions.Session(_fresh_id(cli), cli.cwd, is_kept=cli.session.is_kept)
        cli.session.title = options.value("name")


def begin(cli: Cli, turn: Turn) -> None:
    """Everything from the start of a turn to its `init`."""
    session = cli.session
    session.remember_beginning({"model": cli.model, **cli.system_prompts})
    if turn.messages:
        session.remember_prompt(turn.prompt, cli.ids.uuid(), turn.uuids)
    if session.title:
        cli.system("session_title_changed", title=session.title)
        if cli.turn_count == 1:
            session.note("custom-title", customTitle=session.title)
    if cli.turn_count == 1:
        cli.on_first_turn(cli)
    cli.hook("UserPromptSubmit", {"prompt": turn.prompt})
    if not turn.speech.model or turn.speech.model == cli.model:
        cli.emit(cli.init_event(turn.uuids))
    else:
        cli.emit({**cli.init_event(turn.uuids), "model": turn.speech.model})
    if cli.options.has("replay-user-messages") and turn.messages:
        uuid = turn.uuids[-1] if turn.uuids else ""
        cli.replay(turn.prompt, uuid, timestamp=machine.iso())


# -- the process


def run_text(cli: Cli) -> None:
    """One prompt, its turn, and the turns of finished background work."""
    message = Message(read_prompt(cli))
    record_start(cli, message.text)
    run_turn(cli, Start([message]))
    while cli.background:
        _mind_background(cli)


def run_stream(cli: Cli) -> None:
    """Turn after turn until stdin has ended and nothing is left to do."""

    def take_first(raw: bytes) -> None:
        if not wires.is_control(raw):  # requests of the host come before what it says
            record_start(cli, raw.decode("utf-8", "replace"))
            cli.wire.on_line = cli.take_line
        cli.take_line(raw)

    cli.wire.listen(take_first)
    while True:
        if cli.deferred:
            _answer_deferred(cli)
        elif cli.queue:
            first, cli.queue = cli.queue[:1], cli.queue[1:]
            run_turn(cli, Start(first))
            _drain_queue(cli)
        elif cli.background:
            _mind_background(cli)
        elif cli.wire.is_eof and not cli.eof_is_ignored:
            return
        else:
            cli.wire.pump(None)
            cli.check()


def _drain_queue(cli: Cli) -> None:
    """Messages that arrived during a turn make one turn together."""
    while True:
        cli.wire.pump(0)
        cli.check()
        if not cli.queue:
            return
        merged, cli.queue = cli.queue, []
        run_turn(cli, Start(merged))


def _answer_deferred(cli: Cli) -> None:
    item = cli.deferred.pop(0)
    cli.on_initialize(cli)
    control.answer_initialize(cli, item)


def _mind_background(cli: Cli) -> None:
    def is_something_to_do() -> bool:
        return bool(cli.queue or cli.deferred or not cli.background) or any(
            task.is_over() for task in cli.background
        )

    cli.wait(1.0, is_something_to_do)
    for task in list(cli.background):
        if task.is_over():
            run_id = task.finish(cli)
            run_turn(cli, Start([], run_id))


def show_collected(cli: Cli) -> None:
    """Print what the formats without a stream show at the end."""
    results = [event for event in cli.collected if event.get("type") == "result"]
    if cli.options.output_format == "json":
        if cli.options.has("verbose"):
            cli.emit_raw(wires.encode(cli.collected))
        elif results:
            cli.emit_raw(wires.encode(results[-1]))
    elif cli.options.output_format == "text" and results:
        cli.emit_raw(text_of_result(results[-1]).encode("utf-8", "replace") + b"\n")


def text_of_result(result: Json) -> str:
    """A result as the text format shows it."""
    budget = str(result.get("errors", [""])[0]).rpartition("($")[2].rstrip(")")
    return {
        "error_max_turns": f"Error: Reached max turns ({result['num_turns'] - 1})",
        "error_max_budget_usd": f"Error: Exceeded USD budget ({budget})",
    }.get(result["subtype"], str(result.get("result", "Execution error")))


def run(cli: Cli) -> int:
    """Run to the end; the exit code. Raises UsageError and ScenarioError."""
    try:
        open_session(cli)
        if cli.options.is_streaming_input:
            run_stream(cli)
        else:
            run_text(cli)
    except Signalled as signalled:
        return _end_by_signal(cli, signalled.number)
    except Fatal as fatal:
        machine.complain(str(fatal))
        cli.exit_code = 1
    finally:
        record_start(cli, None)
    for task in list(cli.background):
        task.stop(cli)
    cli.save_totals()
    show_collected(cli)
    cli.emit_raw(cli.last_words)
    cli.wire.flush()
    return cli.exit_code if cli.forced_exit_code is None else cli.forced_exit_code


def _end_by_signal(cli: Cli, number: int) -> int:
    for task in list(cli.background):
        task.stop(cli)
    cli.save_totals()
    if number == SIGINT:
        show_collected(cli)
    cli.wire.flush(1.0)
    return 0 if number == SIGINT else 128 + number


def record_start(cli: Cli, first: str | None) -> None:
    """Append a line about this start to the file named by MOCK_CLAUDE_RECORD, once."""
    path = machine.env("MOCK_CLAUDE_RECORD")
    if not path or cli.is_recorded:
        return
    cli.is_recorded = True
    line = {
        "pid": os.getpid(),
        "argv": cli.argv,
        "cwd": cli.cwd,
        "env": sorted(machine.ENV),
        "first_stdin": first,
    }
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        machine.complain(f"mock_claude: cannot record: {error}")
