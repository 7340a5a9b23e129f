"""What people are told agrees with the tables in the code."""

import re
import subprocess
import tomllib
from collections.abc import Iterable

from hivectl import config
from hivectl.kit import failpoint
from hivectl.model.errors import EXIT_MEANINGS, TABLE
from hivectl.model.event import EVENTS
from hivectl.protocol.methods import METHODS
from tests.arch import source

DOCS = source.ROOT / "docs"


def words(*names: str) -> set[str]:
    """Everything between backticks in some pages."""
    text = "\n".join((DOCS / name).read_text(encoding="utf-8") for name in names)
    return set(re.findall(r"`([^`\n]+)`", text))


def undocumented(names: Iterable[str], page: str) -> list[str]:
    return sorted(set(names) - words(page))


def test_every_method_is_documented() -> None:
    assert undocumented(METHODS, "protocol.md") == []


def test_every_event_is_documented() -> None:
    assert undocumented(EVENTS, "protocol.md") == []


def test_every_error_code_is_documented() -> None:
    assert undocumented(TABLE, "protocol.md") == []


def test_every_setting_is_documented_with_its_variable() -> None:
    names = [*config.BY_KEY, *(s.variable for s in config.SETTINGS if s.kind != "table")]
    assert undocumented(names, "configuration.md") == []


def test_every_other_variable_is_documented() -> None:
    assert undocumented(config.OTHER_VARIABLES, "configuration.md") == []


def test_every_failpoint_is_documented() -> None:
    assert undocumented([*failpoint.NAMES, *failpoint.SHIM_NAMES], "configuration.md") == []


def test_every_exit_code_is_documented() -> None:
    text = (DOCS / "cli.md").read_text(encoding="utf-8")
    missing = [
        int(code)
        for code in EXIT_MEANINGS
        if not re.search(rf"^\|\s*`?{int(code)}`?\s*\|", text, re.MULTILINE)
    ]
    assert missing == []


def test_links_between_pages_lead_somewhere() -> None:
    pages = [source.ROOT / "README.md", source.ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")]
    link = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")
    broken = [
        f"{source.name(page)} -> {target}"
        for page in pages
        for target in link.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_changelog_names_every_dependency() -> None:
    project = tomllib.loads((source.ROOT / "pyproject.toml").read_text())["project"]
    changelog = (source.ROOT / "CHANGELOG.md").read_text()
    names = [re.split(r"[^A-Za-z0-9._-]", wanted)[0] for wanted in project["dependencies"]]
    assert [name for name in names if f"`{name}`" not in changelog] == []


def test_make_has_the_promised_targets() -> None:
    makefile = (source.ROOT / "Makefile").read_text()
    for target in ("install", "demo", "test", "check", "all", "soak", "bench"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_ci_script_is_valid_and_strict() -> None:
    script = source.ROOT / ".ci/run"
    assert "set -euo pipefail" in script.read_text()
    assert script.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
