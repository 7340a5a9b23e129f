"""Lines of several projects: told apart by an aligned name, in every line of a text."""

from hivectl.cli.screen import PALETTE
from hivectl.cli.session import Globals, Session
from hivectl.cli.tailing import MOST_NAME, View, rows_of
from hivectl.cli.transcript import Line


def said(project, text):
    raw = {"message": {"content": [{"type": "text", "text": text}]}}
    return {
        "type": "message", "project": project, "execution": f"x_{project}", "stream": f"project:{project}",
        "ts": "2026-11-21T03:00:00.000000Z", "data": {"kind": "assistant", "raw": raw},
    }  # fmt: skip


def view(capsys, color=False, **names):
    made = View(
        Session(options=Globals(color=color)), raw=False, has_prefix=True, names=dict(names)
    )
    made.align(names.values())
    return made


def test_names_stand_below_each_other_and_before_every_line(capsys):
    shown = view(capsys, p_1="web", p_2="backend")
    shown.show(said("p_1", "one\ntwo"))
    shown.show(said("p_2", "three"))
    assert capsys.readouterr().out.splitlines() == [
        "web     | one",
        "web     | two",
        "backend | three",
    ]


def test_a_project_that_comes_later_makes_room_for_its_name(capsys):
    shown = view(capsys, p_1="web")
    data = {"id": "p_9", "name": "newcomer"}
    shown.show(
        {
            "type": "project.created",
            "stream": "project:p_9",
            "project": "p_9",
            "ts": "t",
            "data": data,
        }
    )
    shown.show(said("p_9", "hello"))
    shown.show(said("p_1", "hi"))
    assert capsys.readouterr().out.splitlines() == ["newcomer | hello", "web      | hi"]


def test_a_long_name_is_cut_and_a_hostile_one_is_harmless(capsys):
    shown = view(capsys, p_1="n" * 80, p_2="a\x1b[2Jb\nc")
    shown.show(said("p_1", "x"))
    shown.show(said("p_2", "y"))
    first, second = capsys.readouterr().out.splitlines()
    assert first.index(" | ") == second.index(" | ") == MOST_NAME
    assert second.startswith("ab c")


def test_the_colour_of_a_project_follows_from_its_name(capsys):
    shown = view(capsys, p_1="web", p_2="web", p_3="api")
    styles = [shown._prefix(said(project, ""))[0][0] for project in ("p_1", "p_2", "p_3")]
    assert styles[0] == styles[1]
    assert set(styles) <= set(PALETTE)


def test_lines_are_cut_where_the_text_has_them():
    item = Line(pieces=(("bold", "a"), ("", "b\nc"), ("dim", "d")))
    assert rows_of(item) == [(("bold", "a"), ("", "b")), (("", "c"), ("dim", "d"))]
    assert rows_of(Line(pieces=(("", "a\nb"),), is_single=True)) == [(("", "a\nb"),)]
