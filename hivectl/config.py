"""Settings: one table, one loader. Flags beat HIVECTL_* variables beat the TOML file beat defaults.

Every key has a default, a unit in its name or meaning, and a sentence; the loader remembers where each
value came from and refuses a wrong one by naming key, value, origin and what is allowed. This is the
only reader of the environment.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hivectl.kit.clock import parse_duration_s
from hivectl.model.errors import HiveError
from hivectl.model.notification import NOTICE_KINDS
from hivectl.model.price import parse_price

DEFAULT_PORT = 4483
SOCKET_PATH_BYTES = 91
"""What our sockets' paths may have: the system's limit (103 on macOS, 107 on Linux) less the longer
name under which a socket is bound before it gets its own."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of SETTINGS. `kind`: str, path, int, float, bool, duration, size, list, table, choice,
    window (such as 22:00-07:00), daytime (07:00) or urls (a list, http and https only)."""

    key: str
    kind: str
    default: Any
    meaning: str
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    reloads: bool = False
    is_secret: bool = False
    """Never shown: not by `config show`, not in errors, not to clients."""
    hides_values: bool = False
    """Of a table: its names are shown, its values, which may be secrets, as little as a secret."""

    @property
    def variable(self) -> str:
        """The environment variable: HIVECTL_ and the key in capitals."""
        return _SHORT.get(self.key) or "HIVECTL_" + self.key.upper().replace(".", "_")


_SHORT = {"claude.bin": "HIVECTL_CLAUDE_BIN", "client.autostart": "HIVECTL_AUTOSTART"}

MIB = 1024 * 1024
HIDDEN = "***"
S = Setting

# A table is read by its columns.
# fmt: off
SETTINGS: tuple[Setting, ...] = (
    S("claude.bin", "str", "claude", "The Claude CLI: a name looked up in PATH, an absolute path, or `mock` for the built-in stand-in."),
    S("claude.min_version", "str", "2.1.197", "An older Claude CLI is refused."),
    S("claude.env", "table", {}, "Variables added to Claude's environment in every project; only their names are shown.", hides_values=True),
    S("claude.slash_commands", "bool", False, "Whether prompts may start with a slash command; projects can set it for themselves."),
    S("claude.ask_human", "bool", True, "Whether Claude may ask a person by the tool `ask_human`; projects can set it for themselves.", reloads=True),
    S("claude.deny_read", "list", [], "Absolute paths Claude's file tools must not read, beside the built-in ones."),
    S("listen.tcp", "str", f"127.0.0.1:{DEFAULT_PORT}", "Address and port of the TCP listener, or `off`. Port 0 takes a free one."),
    S("listen.allowed_hosts", "list", [], "Further `host` or `host:port` values accepted in the Host header."),
    S("listen.public_origins", "list", [], "Origins of browsers that may connect, beside the daemon's own."),
    S("listen.tls_cert", "str", "", "File with the TLS certificate and its chain (PEM): TCP is then https and wss only. Changed files are taken over by themselves."),
    S("listen.tls_key", "str", "", "File with its private key, for your eyes only (mode 0600); empty = it stands in the certificate's file."),
    S("listen.insecure_plain_http", "bool", False, "Allow a non-loopback address without TLS."),
    S("projects.roots", "list", [], "Directories projects may lie in; empty = your home and the temporary directory."),
    S("projects.max", "int", 100, "Most projects.", least=1, most=100_000),
    S("execution.max_live", "int", 64, "Most executions that run at once, over all projects and workers; those waiting for a person do not count.", least=1, most=1000, reloads=True),
    S("execution.max_waiting", "int", 100, "With so many waiting for a person nothing new is started: each keeps its process.", least=1, most=10_000, reloads=True),
    S("execution.timeout_s", "duration", 1800.0, "Wall-clock limit of an execution; time waiting for a person does not count.", least=0.1, reloads=True),
    S("execution.no_output_timeout_s", "duration", 0.0, "Ended when it prints nothing for so long; 0 = never.", least=0, reloads=True),
    S("execution.hang_after_result_s", "duration", 10.0, "How long Claude may live on after its result.", least=0.1, reloads=True),
    S("execution.linger_s", "duration", 0.5, "How long processes Claude left behind may live before they are ended.", least=0, most=600, reloads=True),
    S("execution.interrupt_s", "duration", 5.0, "Stop ladder: time for the interrupt request.", least=0, most=600),
    S("execution.close_s", "duration", 2.0, "Stop ladder: time after the end of input.", least=0, most=600),
    S("execution.term_s", "duration", 5.0, "Stop ladder: time after SIGTERM.", least=0, most=600),
    S("execution.max_output_bytes", "size", 1024 * MIB, "Most output of one execution.", least=1024, reloads=True),
    S("execution.max_prompt_bytes", "size", 5 * MIB, "Largest prompt.", least=1, most=5 * MIB),
    S("queue.max_orders", "int", 100_000, "Most work orders waiting.", least=1),
    S("queue.idempotency_h", "int", 24, "Hours an idempotency key is remembered.", least=1, most=24 * 30),
    S("session.idle_s", "duration", 1800.0, "A conversation idle for so long is ended; 0 = never.", least=0, reloads=True),
    S("session.max_age_s", "duration", 3600.0, "One older than this is ended once it is idle; 0 = never.", least=0, reloads=True),
    S("session.on_expiry", "choice", "resume", "What the next prompt does with a conversation that has ended: resume it, or begin a fresh one.", choices=("resume", "fresh"), reloads=True),
    S("session.warm", "bool", False, "Whether Claude stays alive after its result, for a quick next prompt; projects can set it for themselves.", reloads=True),
    S("session.max_warm", "int", 4, "Most processes that stay so; the one that waits longest makes room.", least=0, most=1000, reloads=True),
    S("queue.max_after", "int", 100, "Most work orders that one may be told to follow.", least=1, most=1000),
    S("queue.max_per_user", "int", 0, "Most executions of one user that run at once; 0 = no such cap.", least=0, most=1000, reloads=True),
    S("queue.retries", "int", 0, "How often a work order is tried again after a failure worth it, when it does not say so itself.", least=0, most=100, reloads=True),
    S("queue.retry_base_s", "duration", 10.0, "Time before the first retry; doubled for each further one.", least=0.01, reloads=True),
    S("queue.retry_max_s", "duration", 900.0, "Longest time before a retry.", least=0.01, reloads=True),
    S("queue.on_usage_limit", "choice", "park", "What becomes of work that a usage limit stopped: kept for you (park), taken up again when the limit ends (resume), or failed.", choices=("park", "resume", "fail"), reloads=True),
    S("queue.max_resumptions", "int", 5, "How often one work order is taken up again by itself after usage limits.", least=0, most=1000, reloads=True),
    S("queue.limit_wait_s", "duration", 3600.0, "How long an account is parked when Claude does not say when its limit ends.", least=1, reloads=True),
    S("worker.slots", "int", 0, "Local workers; 0 = the number of processors, at most 4, or `execution.max_live` where that is set.", least=0, most=256, reloads=True),
    S("worktree.root", "str", "", "Directory that worktrees lie in, private to you; empty = `hivectl/worktrees` in your data directory, or `worktrees` under HIVECTL_HOME."),
    S("worktree.max_per_project", "int", 20, "Most worktrees of a project that were neither accepted nor discarded.", least=1, most=1000, reloads=True),
    S("worktree.diff_bytes", "size", MIB, "Most bytes of a patch that `execution diff` shows.", least=1024, most=4 * MIB, reloads=True),
    S("worker.max_external", "int", 100, "Most registered workers outside; who has been offline for the longest makes room.", least=0, most=10_000, reloads=True),
    S("worker.lease_s", "duration", 30.0, "A worker outside that is silent for so long is offline, and what it carried is lost, where it does not say otherwise.", least=0.5, most=3600, reloads=True),
    S("approval.default", "choice", "ask", "What happens when no rule matches.", choices=("ask", "deny", "allow")),
    S("approval.timeout_s", "duration", 0.0, "How long a person has to answer a permission request; 0 = it waits for ever. A rule can say so for itself.", least=0, reloads=True),
    S("approval.on_timeout", "choice", "deny", "What happens then: it is denied, goes on waiting, or what `approval.default` says. Silence never answers a question.", choices=("wait", "deny", "default"), reloads=True),
    S("budget.project_usd_per_day", "float", 0.0, "Most US dollars a project may use a day; 0 = no limit. Projects can set it for themselves.", least=0, reloads=True),
    S("budget.project_tokens_per_day", "int", 0, "Most tokens, of all kinds, a project may use a day; 0 = no limit.", least=0, reloads=True),
    S("budget.project_minutes_per_day", "float", 0.0, "Most minutes a project's executions may run a day; 0 = no limit.", least=0, reloads=True),
    S("budget.user_usd_per_day", "float", 0.0, "Most US dollars a user may use a day, over all projects; 0 = no limit.", least=0, reloads=True),
    S("budget.user_tokens_per_day", "int", 0, "Most tokens, of all kinds, a user may use a day; 0 = no limit.", least=0, reloads=True),
    S("budget.user_minutes_per_day", "float", 0.0, "Most minutes a user's executions may run a day; 0 = no limit.", least=0, reloads=True),
    S("usage.prices", "table", {}, "Prices by part of a model's name, in dollars a million tokens as INPUT/OUTPUT, such as opus = 4/20; used only where Claude states none.", reloads=True),
    S("question.timeout_s", "duration", 0.0, "How long a question of `ask_human` or of a worker waits for an answer; 0 = for ever. Projects can set it for themselves.", least=0, most=24 * 86400, reloads=True),
    S("question.on_timeout", "choice", "wait", "What the asker hears then: wait = nothing, it waits on; default = decide for yourself; deny = do not go on. Projects can set it for themselves.", choices=("wait", "default", "deny"), reloads=True),
    S("notify.targets", "list", [], "Where people are told: addresses of apprise, such as `ntfy://TOPIC` or `dbus://`. They may hold secrets and are never shown.", reloads=True, is_secret=True),
    S("notify.events", "list", [name for name, kind in NOTICE_KINDS.items() if kind.is_default], "What people are told of.", choices=tuple(NOTICE_KINDS), reloads=True),
    S("notify.quiet_hours", "window", "", "Nothing is told in this time of the day, such as `22:00-07:00` or `22:00-07:00 Europe/Berlin`; at its end one message tells all of it.", reloads=True),
    S("notify.quiet_urgent", "bool", False, "Whether what needs a person (approvals, questions) is told in quiet hours too.", reloads=True),
    S("notify.dedupe_s", "duration", 300.0, "The same thing is told once in so long.", least=0, most=86400, reloads=True),
    S("notify.bundle_s", "duration", 10.0, "Messages of one kind come at least so far apart; what comes between is told in one.", least=0, most=3600, reloads=True),
    S("notify.timeout_s", "duration", 20.0, "How long sending one message may take.", least=1, most=300, reloads=True),
    S("notify.retry_for_s", "duration", 6 * 3600.0, "How long a message to people is tried, at growing distances of up to an hour.", least=0, most=7 * 86400, reloads=True),
    S("webhook.urls", "urls", [], "Where programs are told: each gets a signed POST. They may hold secrets and are never shown.", reloads=True, is_secret=True),
    S("webhook.events", "list", ["approval.*", "question.*", "execution.created", "execution.ended", "usage_limit.*", "budget.*", "system.notice"], "Types of events that webhooks get; patterns such as `approval.*`.", reloads=True),
    S("webhook.secret", "str", "", "What signs webhooks (`whsec_` and base 64, or any text); empty = one that is made and kept in `STATE/webhook-secret`.", reloads=True, is_secret=True),
    S("webhook.retry_for_s", "duration", 24 * 3600.0, "How long a webhook is tried, at growing distances of up to an hour.", least=0, most=7 * 86400, reloads=True),
    S("summary.at", "daytime", "", "When people get a summary of the last day, such as `07:00`; empty = never.", reloads=True),
    S("watch.files", "bool", True, "Whether files that change in a project while Claude works there are told of; projects can set it for themselves.", reloads=True),
    S("watch.max_paths", "int", 20, "Most paths told of in one event; the others are counted.", least=1, most=1000, reloads=True),
    S("watch.max_directories", "int", 2000, "Most directories of a project that are watched.", least=1, most=100_000, reloads=True),
    S("log.segment_bytes", "size", 64 * MIB, "A log segment is closed at this size.", least=64 * 1024),
    S("log.segment_age_s", "duration", 86400.0, "A log segment is closed at this age.", least=1),
    S("log.segment_lines", "int", 1_000_000, "A log segment is closed at this many lines.", least=100),
    S("log.retention_bytes", "size", 0, "Oldest segments of a project go beyond this size; 0 = keep all.", least=0),
    S("log.retention_age_s", "duration", 0.0, "Segments older than this go; 0 = keep all.", least=0),
    S("log.durability", "choice", "normal", "How soon log lines survive a power loss: normal 100 ms, strict 20 ms.", choices=("normal", "strict")),
    S("log.spill_bytes", "size", 256 * 1024, "Larger lines are kept beside the log and referenced.", least=1024, most=4 * MIB),
    S("daemon.log_level", "choice", "info", "How much the daemon's own log says.", choices=("debug", "info", "warning", "error"), reloads=True),
    S("daemon.log_bytes", "size", 10 * MIB, "The daemon's own log is rotated at this size.", least=64 * 1024),
    S("daemon.log_files", "int", 5, "How many rotated daemon logs are kept.", least=1, most=100),
    S("daemon.stop_timeout_s", "duration", 20.0, "Longest time a graceful stop may take.", least=1),
    S("limits.connections", "int", 100, "Most connections.", least=1, most=10_000),
    S("limits.unauthenticated", "int", 16, "Most connections that have not said who they are.", least=1),
    S("limits.auth_deadline_s", "duration", 5.0, "Time to say so.", least=0.1),
    S("limits.message_bytes", "size", 8 * MIB, "Largest inbound message.", least=64 * 1024, most=64 * MIB),
    S("limits.requests_in_flight", "int", 64, "Most unanswered requests of a connection.", least=1),
    S("limits.subscriptions", "int", 64, "Most subscriptions of a connection.", least=1),
    S("limits.messages_per_s", "int", 100, "Inbound messages per second of a connection.", least=1),
    S("limits.messages_burst", "int", 200, "How many may come at once.", least=1),
    S("limits.held_events", "int", 1000, "Most events held for a connection that reads slowly.", least=1),
    S("limits.held_bytes", "size", 4 * MIB, "Most bytes held for it.", least=64 * 1024),
    S("limits.write_stall_s", "duration", 30.0, "A connection that takes nothing for so long is closed (4430).", least=0.1),
    S("limits.heartbeat_s", "duration", 30.0, "A ping is sent this often.", least=0.1),
    S("limits.pong_s", "duration", 20.0, "Without a pong for so long the connection is closed (4431).", least=0.1),
    S("limits.idle_close_s", "duration", 300.0, "A connection without any frame for so long is closed.", least=1),
    S("client.autostart", "bool", True, "Whether a command starts the daemon when none runs."),
    S("client.start_timeout_s", "duration", 15.0, "How long a command waits for a daemon it started.", least=1),
)
# fmt: on

BY_KEY: dict[str, Setting] = {setting.key: setting for setting in SETTINGS}

OTHER_VARIABLES: dict[str, str] = {
    "HIVECTL_HOME": "Puts everything of a daemon (state, configuration, sockets) into this one private directory.",
    "HIVECTL_CONFIG": "The configuration file to read instead of the usual one.",
    "HIVECTL_TOKEN": "Token for a TCP connection.",
    "HIVECTL_URL": "Daemon to talk to over TCP instead of the local socket, such as https://server.lan:4483 or http://127.0.0.1:4483.",
    "HIVECTL_CA_FILE": "File (PEM) with the certificates to trust for https and wss, in place of the system's: of authorities, or the daemon's own.",
    "HIVECTL_PROJECT": "Project to use when none is named.",
    "HIVECTL_FAILPOINT": "Test aid: breaks the program at named places.",
    "HIVECTL_EXECUTION": "Set for everything an execution starts; its own id.",
}


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything of one daemon lies."""

    state: Path
    config_file: Path
    runtime: Path
    is_private: bool
    """One directory by HIVECTL_HOME: then the TCP port is a free one."""
    data: Path
    """What Claude works on, which is no state of hivectl's."""

    @property
    def socket(self) -> Path:
        """The daemon's UNIX socket."""
        return self.runtime / "api.sock"

    @property
    def lock(self) -> Path:
        """Held by the daemon for its life."""
        return self.state / "daemon.lock"

    @property
    def database(self) -> Path:
        """State of record."""
        return self.state / "hivectl.db"

    @property
    def journal(self) -> Path:
        """Messages of record."""
        return self.state / "log"

    @property
    def runs(self) -> Path:
        """Process directories."""
        return self.state / "runs"

    @property
    def worktrees(self) -> Path:
        """Working trees of executions, where `worktree.root` names no other place: not below the state,
        which Claude may not read."""
        return self.data / "worktrees"

    @property
    def daemon_log(self) -> Path:
        """The daemon's own log."""
        return self.state / "daemon.log"

    @property
    def runtime_file(self) -> Path:
        """What the running daemon says of itself: pid, TCP address, version."""
        return self.runtime / "daemon.json"

    @property
    def token_file(self) -> Path:
        """The token for TCP."""
        return self.state / "token"

    @property
    def webhook_secret_file(self) -> Path:
        """The secret that signs webhooks, unless the settings give one."""
        return self.state / "webhook-secret"


@dataclass(frozen=True, slots=True)
class Settings:
    """All values, frozen, with the origin of each."""

    values: Mapping[str, Any]
    origins: Mapping[str, str]
    places: Places
    warnings: tuple[str, ...] = ()
    faults: tuple[HiveError, ...] = ()
    """What `survey` found wrong and left at its default. No daemon is started with any."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The environment this was built from: what Claude's is filtered out of."""

    def __getitem__(self, key: str) -> Any:
        """The value of `key`. Raises KeyError for one that is not in SETTINGS."""
        return self.values[key]

    def seconds(self, key: str) -> float:
        """A duration."""
        return float(self.values[key])

    def seconds_or_none(self, key: str) -> float | None:
        """A duration where 0 means none."""
        return float(self.values[key]) or None

    def number(self, key: str) -> int:
        """An int or size."""
        return int(self.values[key])

    def text(self, key: str) -> str:
        """A str or choice."""
        return str(self.values[key])

    def flag(self, key: str) -> bool:
        """A bool."""
        return bool(self.values[key])

    def strings(self, key: str) -> list[str]:
        """A list."""
        return list(self.values[key])


def find_places(env: Mapping[str, str]) -> Places:
    """Where state, configuration and sockets lie for this environment. Touches nothing."""
    home = Path(env.get("HOME") or Path.home())
    if root := env.get("HIVECTL_HOME"):
        base = Path(root).expanduser().absolute()
        file = Path(env.get("HIVECTL_CONFIG") or base / "config.toml").absolute()
        runtime_dir = _reachable(base / "run", env, home)
        return Places(base / "state", file, runtime_dir, is_private=True, data=base)
    state = Path(env.get("XDG_STATE_HOME") or home / ".local/state") / "hivectl"
    config = Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "hivectl"
    runtime = env.get("XDG_RUNTIME_DIR")
    where = Path(runtime) / "hivectl" if runtime and Path(runtime).is_dir() else state / "run"
    file = Path(env.get("HIVECTL_CONFIG") or config / "config.toml").absolute()
    data = Path(env.get("XDG_DATA_HOME") or home / ".local/share") / "hivectl"
    return Places(state, file, where, is_private=False, data=data)


def _reachable(runtime: Path, env: Mapping[str, str], home: Path) -> Path:
    """`runtime`, or where its sockets' paths would be too long to bind, a short place with a name of its own."""
    if len(os.fsencode(runtime)) + len("/api.sock") <= SOCKET_PATH_BYTES:
        return runtime
    import hashlib  # noqa: PLC0415  it loads OpenSSL, and few need it

    own = hashlib.sha256(os.fsencode(runtime)).hexdigest()[:12]
    given = env.get("XDG_RUNTIME_DIR")
    near = Path(given) if given and Path(given).is_dir() else home / ".local/state"
    return near / "hivectl" / f"run-{own}"


def load(flags: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None) -> Settings:
    """Read all settings. Raises HiveError CONFIG_INVALID naming key, value, origin and what is allowed."""
    settings = survey(flags, env)
    if settings.faults:
        raise settings.faults[0]
    return settings


def survey(
    flags: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None
) -> Settings:
    """As `load`, but what is wrong stays at its default and is told in `faults`: for whoever only looks,
    mends, or talks to a daemon that runs already. Never raises."""
    env = dict(os.environ if env is None else env)
    places = find_places(env)
    values: dict[str, Any] = {s.key: s.default for s in SETTINGS}
    origins = dict.fromkeys(values, "default")
    if places.is_private:
        values["listen.tcp"], origins["listen.tcp"] = "127.0.0.1:0", "default under HIVECTL_HOME"
    warnings: list[str] = []
    faults: list[HiveError] = []
    layers = (
        (str(places.config_file), _from_file(places.config_file, faults)),
        ("environment", _from_environment(env, warnings)),
        ("flag", dict(flags or {})),
    )
    for origin, layer in layers:
        for key, raw in layer.items():
            named = (
                f"environment {BY_KEY[key].variable}"
                if origin == "environment" and key in BY_KEY
                else origin
            )
            try:
                values[key] = parse_value(key, raw, named)
            except HiveError as exc:
                faults.append(exc)
                continue
            origins[key] = named
    return Settings(values, origins, places, tuple(warnings), tuple(faults), env)


def parse_value(key: str, raw: Any, origin: str) -> Any:
    """The checked value of a setting. Raises HiveError CONFIG_INVALID."""
    setting = BY_KEY.get(key)
    if setting is None:
        raise _wrong(key, raw, origin, "there is no such setting", close=_closest(key))
    try:
        value = _PARSERS[setting.kind](raw)
        if key == "usage.prices":
            for text in value.values():
                parse_price(text)
    except (ValueError, TypeError) as exc:
        raise _wrong(key, raw, origin, str(exc)) from None
    unknown = [
        item
        for item in (value if isinstance(value, list) else [value])
        if item not in setting.choices
    ]
    if setting.choices and unknown:
        raise _wrong(key, raw, origin, f"allowed: {', '.join(setting.choices)}")
    if setting.least is not None and value < setting.least:
        raise _wrong(key, raw, origin, f"the least is {setting.least:g}")
    if setting.most is not None and value > setting.most:
        raise _wrong(key, raw, origin, f"the most is {setting.most:g}")
    return value


def _wrong(key: str, raw: Any, origin: str, why: str, close: str = "") -> HiveError:
    hint = f"Did you mean `{close}`?" if close else ""
    known = BY_KEY.get(key)
    if known is None or known.is_secret or known.hides_values:
        raw = (
            HIDDEN  # also of a setting that nobody knows: it may be a secret under a misspelt name
        )
    return HiveError(
        "CONFIG_INVALID",
        f"{key} = {raw!r} (from {origin}): {why}",
        hint=hint,
        details={"key": key, "origin": origin, "why": why},
    )


def _closest(key: str) -> str:
    import difflib  # noqa: PLC0415  only on the way to an error

    found = difflib.get_close_matches(key, BY_KEY, n=1)
    return found[0] if found else ""


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as exc:
        raise not_toml(path, exc) from None
    except OSError as exc:
        raise HiveError(
            "CONFIG_INVALID",
            f"{path} cannot be read: {exc.strerror}",
            hint=f"Make it a file that you can read: ls -l {path}",
            details={"file": str(path)},
        ) from None
    import tomllib  # noqa: PLC0415  most homes have no file

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise not_toml(path, exc) from None


def not_toml(path: Path, exc: Exception) -> HiveError:
    """CONFIG_INVALID naming the line of a file that is no TOML."""
    line = _line_of(path, exc)
    return HiveError(
        "CONFIG_INVALID",
        f"{path}, line {line}, is not TOML: {exc}",
        hint=f"Mend line {line} of {path}; until then all of the file is left out of account.",
        details={"file": str(path), "line": line},
    )


def _line_of(path: Path, exc: Exception) -> int:
    """Parsers name the line in words, or not at all when something is missing at the end of the file."""
    if isinstance(exc, UnicodeDecodeError):
        return exc.object.count(b"\n", 0, exc.start) + 1
    if named := re.search(r"\bline (\d+)", str(exc)):
        return int(named[1])
    try:
        return max(len(path.read_bytes().splitlines()), 1)
    except OSError:
        return 1


def _from_file(path: Path, faults: list[HiveError]) -> dict[str, Any]:
    try:
        return _flatten(_read_file(path), path, faults)
    except HiveError as exc:
        faults.append(exc)
        return {}


def _flatten(tree: dict[str, Any], path: Path, faults: list[HiveError]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for section, content in tree.items():
        if not isinstance(content, dict):
            why = "settings stand in sections such as [claude]"
            faults.append(_wrong(section, content, str(path), why, _closest(section)))
            continue
        for name, value in content.items():
            flat[f"{section}.{name}"] = value
    return flat


def _from_environment(env: Mapping[str, str], warnings: list[str]) -> dict[str, Any]:
    by_variable = {setting.variable: setting for setting in SETTINGS if setting.kind != "table"}
    found: dict[str, Any] = {}
    for name in sorted(env):
        if not name.startswith("HIVECTL_") or name in OTHER_VARIABLES:
            continue
        if setting := by_variable.get(name):
            found[setting.key] = env[name]
        else:
            warnings.append(f"unknown environment variable {name}")
    return found


def _parse_bool(raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    words = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
    }
    if isinstance(raw, str) and raw.lower() in words:
        return words[raw.lower()]
    raise ValueError("give true or false")


def _parse_int(raw: Any) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int | str):
        raise TypeError("give a whole number")
    try:
        return int(raw)
    except ValueError:
        raise ValueError("give a whole number") from None


def _parse_size(raw: Any) -> int:
    if isinstance(raw, str):
        text = raw.strip().lower().removesuffix("ib").removesuffix("b")
        factor = {"k": 1024, "m": MIB, "g": 1024 * MIB, "t": 1024 * 1024 * MIB}.get(text[-1:], 1)
        digits = text[:-1] if factor > 1 else text
        if not digits.isdigit():
            raise ValueError("give a size such as 65536, 64K, 10M or 1G")
        return int(digits) * factor
    return _parse_int(raw)


def _parse_duration(raw: Any) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        raise TypeError("give seconds or a duration such as 90s or 1h30m")
    return parse_duration_s(str(raw))


def _parse_str(raw: Any) -> str:
    if not isinstance(raw, str):
        raise TypeError("give a text")
    return raw


def _parse_list(raw: Any) -> list[str]:
    items = (
        [part.strip() for part in raw.split(",") if part.strip()] if isinstance(raw, str) else raw
    )
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise TypeError("give a list of texts")
    return items


def _parse_urls(raw: Any) -> list[str]:
    items = _parse_list(raw)
    if not all(item.startswith(("http://", "https://")) for item in items):
        raise ValueError("give addresses that begin with http:// or https://")
    return items


def _parse_window(raw: Any) -> str:
    if text := _parse_str(raw).strip():
        from hivectl.kit.daytime import parse_window  # noqa: PLC0415  few set it

        parse_window(text)
    return text


def _parse_daytime(raw: Any) -> str:
    if text := _parse_str(raw).strip():
        from hivectl.kit.daytime import parse_daytime  # noqa: PLC0415  few set it

        parse_daytime(text)
    return text


def shown(setting: Setting, value: Any) -> Any:
    """A setting's value for whoever looks: of a secret one only whether, and how many, there are."""
    if setting.hides_values:
        return dict.fromkeys(value, HIDDEN)
    if not setting.is_secret or not value:
        return value
    return [HIDDEN] * len(value) if isinstance(value, list) else HIDDEN


def _parse_table(raw: Any) -> dict[str, str]:
    if not isinstance(raw, dict) or not all(isinstance(value, str) for value in raw.values()):
        raise TypeError("give a table of texts")
    return dict(raw)


_PARSERS: dict[str, Any] = {
    "str": _parse_str,
    "choice": _parse_str,
    "bool": _parse_bool,
    "int": _parse_int,
    "size": _parse_size,
    "float": _parse_duration,
    "duration": _parse_duration,
    "list": _parse_list,
    "table": _parse_table,
    "urls": _parse_urls,
    "window": _parse_window,
    "daytime": _parse_daytime,
}


def default_roots(settings: Settings) -> list[Path]:
    """Where projects may lie: `projects.roots`, else the home and the temporary directory."""
    configured = settings.strings("projects.roots")
    if configured:
        return [Path(item).expanduser().resolve() for item in configured]
    home = Path(settings.environment.get("HOME") or Path.home())
    return [home.resolve(), Path(tempfile.gettempdir()).resolve()]


def expand(settings: Settings, configured: str) -> Path:
    """A configured path, with `~` for the home of the settings' environment."""
    home = settings.environment.get("HOME") or str(Path.home())
    if configured == "~" or configured.startswith("~/"):
        configured = home + configured[1:]
    return Path(configured)


def worktree_root(settings: Settings) -> Path:
    """Where worktrees lie, links followed; it need not exist yet."""
    configured = settings.text("worktree.root")
    place = expand(settings, configured) if configured else settings.places.worktrees
    return place.absolute().resolve()
