"""What an answer looks like on the wire."""

import pytest

from hivectl.server.exchange import TEXT, Answer, Request, Route, render
from hivectl.server.problem import http_date

DATE = [(b"date", b"now")]


def request(method=b"GET"):
    return Request(method, b"/healthz", [(b"a", b"1"), (b"a", b"2")], b"", None, False)


def test_an_answer_says_its_length_and_kind():
    sent = render(Answer(200, b"ok\n", TEXT), request(), DATE, is_last=False)
    head, body = sent.split(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 200 OK", b"date: now", b"content-length: 3", b"content-type: text/plain; charset=utf-8",
    ]  # fmt: skip
    assert body == b"ok\n"


def test_the_last_answer_says_so_and_one_to_head_has_no_body():
    answer = Answer(405, b"no", headers=((b"allow", b"GET"),))
    sent = render(answer, request(b"HEAD"), [], is_last=True)
    assert sent.startswith(b"HTTP/1.1 405 Method Not Allowed\r\nallow: GET\r\n")
    assert sent.endswith(b"content-length: 2\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n")  # fmt: skip


@pytest.mark.parametrize(
    ("method", "takes"), [(b"GET", True), (b"HEAD", True), (b"POST", False), (b"get", False)]
)
def test_get_means_head_too(method, takes):
    assert Route(b"GET", None).takes(method) is takes


def test_the_first_header_of_a_name_counts():
    assert request().header(b"a") == b"1"
    assert request().header(b"b") == b""


def test_dates_are_written_as_http_wants_them():
    assert http_date(784111777) == "Sun, 06 Nov 1994 08:49:37 GMT"
