"""From a request to its answer: known method, allowed caller, valid parameters, the bound use case, the audit.

Every transport goes through here. It knows METHODS and the bindings it was given, and no socket. A bug in
a use case becomes INTERNAL with an incident id; the traceback goes to the log only.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from hivectl.kit.ids import make_id
from hivectl.logic.redact import excerpt
from hivectl.model.access import Caller
from hivectl.model.errors import HiveError
from hivectl.protocol.methods import METHODS, Method, params_model
from hivectl.protocol.patterns import ENV_NAME_PATTERN, NAME_PATTERN

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

_log = logging.getLogger(__name__)

Binding = Callable[[Caller, Any], Awaitable[Any]]
Bindings = Mapping[str, Binding]
Audit = Callable[[Caller, str, str, str], Awaitable[None]]
"""audit(caller, method, target, outcome): what was tried on what; the outcome is `ok` or an error's code."""

_TARGETS = (
    "execution",
    "work_order",
    "worker",
    "project",
    "thread",
    "id",
    "session",
    "path",
    "name",
)
_ALWAYS_SERVED = frozenset({"daemon.stop"})
_MAX_ERRORS = 20


class Dispatcher:
    """One for all connections."""

    def __init__(self, bindings: Bindings, *, audit: Audit | None = None) -> None:
        unknown = bindings.keys() - METHODS.keys()
        if unknown:
            raise ValueError(f"bindings without a row in METHODS: {', '.join(sorted(unknown))}")
        self._bindings = bindings
        self._audit = audit
        self.is_draining = False
        """Set when the daemon stops: nothing is changed any more."""

    def method(self, name: str) -> Method:
        """The row of METHODS. Raises HiveError METHOD_NOT_FOUND with what was probably meant."""
        method = METHODS.get(name)
        if method is not None:
            return method
        import difflib  # noqa: PLC0415  only on the way to an error

        close = difflib.get_close_matches(name[:100], METHODS, n=3)
        raise HiveError(
            "METHOD_NOT_FOUND",
            f"There is no method {excerpt(name, 100)!r}.",
            hint=f"Did you mean `{close[0]}`?" if close else "",
            details={"did_you_mean": close} if close else None,
        )

    async def dispatch(
        self, caller: Caller, method: Method, params: dict[str, Any], local: Bindings | None = None
    ) -> Any:
        """The result of the method; `local` are a connection's own bindings, tried first.

        Raises HiveError; never anything else but CancelledError."""
        outcome = "cancelled"
        try:
            result = await self._call(caller, method, params, local or {})
            outcome = "ok"
        except HiveError as exc:
            outcome = exc.code
            raise
        except Exception as exc:
            # The last line of defence: one faulty request must not take the connection along.
            outcome = "INTERNAL"
            raise report_bug(exc, method.name, caller) from exc
        finally:
            if method.changes and self._audit is not None:
                await self._write_audit(self._audit, caller, method, params, outcome)
        return result

    async def _call(
        self, caller: Caller, method: Method, params: dict[str, Any], local: Bindings
    ) -> Any:
        check_scope(caller, method)
        if self.is_draining and method.changes and method.name not in _ALWAYS_SERVED:
            raise HiveError("SHUTTING_DOWN", retry_after_ms=2000)
        model = parse_params(method, params)
        binding = local.get(method.name) or self._bindings.get(method.name)
        if binding is None:
            raise HiveError("METHOD_NOT_FOUND", f"This daemon does not offer {method.name}.")
        return await binding(caller, model)

    async def _write_audit(
        self, audit: Audit, caller: Caller, method: Method, params: dict[str, Any], outcome: str
    ) -> None:
        try:
            await audit(caller, method.name, _target(params), outcome)
        except Exception:  # noqa: BLE001  the deed is done and its answer true: a failed note must not turn it into an error
            _log.exception(
                "audit entry could not be written",
                extra={"method": method.name, "request": caller.request},
            )


def check_scope(caller: Caller, method: Method) -> None:
    """Raises HiveError FORBIDDEN, or SELF_APPROVAL_DENIED for what no execution may do (S16)."""
    if caller.allows(method.scope):
        return
    scope = method.scope
    assert scope is not None, "a method without scope is open to all"
    if caller.is_denied(scope):
        raise HiveError(
            "SELF_APPROVAL_DENIED",
            "A connection that works as a worker may not do that." if caller.is_worker else "",
            details={"scope": scope.value, "execution": caller.execution},
        )
    raise HiveError(
        "FORBIDDEN", f"{method.name} needs the scope {scope}.", details={"scope": scope.value}
    )


def parse_params(method: Method, params: dict[str, Any]) -> BaseModel | None:
    """The parameters as their model; None where there are none to give and none were given.

    Raises HiveError INVALID_PARAMS naming each wrong one."""
    if method.params == "Empty" and not params:
        return None  # `ping` and its like need no pydantic: it would double a cold start
    from pydantic import ValidationError  # noqa: PLC0415  pydantic is not on the path of a cold start

    try:
        return params_model(method).model_validate(params)
    except ValidationError as exc:
        errors = _describe(exc, params)
        first = _telling(errors)
        where = first["pointer"].removeprefix("/").replace("/", ".")
        raise HiveError(
            "INVALID_PARAMS",
            f"{where + ': ' if where else ''}{first['message']}",
            details={"errors": errors},
        ) from None


def _telling(errors: list[dict[str, str]]) -> dict[str, str]:
    """The error to be told first. Of what may have several forms: that of the form which was meant."""
    first = errors[0]
    inside = first["pointer"] + "/"
    meant = (
        error for error in errors
        if error["pointer"].startswith(inside) and error["code"] not in ("missing", "extra_forbidden")
    )  # fmt: skip
    return next(meant, first)


def _describe(exc: ValidationError, params: dict[str, Any]) -> list[dict[str, str]]:
    # The value is never repeated, and of the context only what the schema allows: the rest may hold a secret.
    found = exc.errors(include_url=False, include_input=False)
    return [
        {
            "pointer": _pointer(error["loc"], params),
            "code": error["type"],
            "message": _in_words(error["type"], error["msg"], error.get("ctx") or {}),
        }
        for error in found[:_MAX_ERRORS]
    ]


_PATTERNS = {
    NAME_PATTERN: "may only have the characters a-z 0-9 . _ - and begins with a letter or digit",
    ENV_NAME_PATTERN: "may only have letters, digits and _ and does not begin with a digit",
}
_WORDS = {
    "missing": "must be given",
    "extra_forbidden": "is not known here",
    "literal_error": "must be {expected}",
    "greater_than": "must be more than {gt:.10g}",
    "greater_than_equal": "must be at least {ge:.10g}",
    "less_than": "must be less than {lt:.10g}",
    "less_than_equal": "must be at most {le:.10g}",
    "string_type": "must be a text",
    "string_too_short": "must not be empty",
    "string_too_long": "may have at most {max_length} characters",
    "too_long": "may have at most {max_length} entries",
    "too_short": "needs at least {min_length}",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "none_required": "must be null",
}
"""What is allowed, by the kind of pydantic's error; `{…}` are bounds of the schema."""


def _in_words(kind: str, message: str, bounds: Mapping[str, Any]) -> str:
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(str(bounds.get("pattern")), f"must match {bounds.get('pattern')}")
    if kind in _WORDS:
        return _WORDS[kind].format_map(bounds)
    return message.removeprefix("Value error, ")


def _pointer(loc: tuple[int | str, ...], params: Any) -> str:
    """RFC 6901. pydantic's location also names the tried members of a union: those are left out."""
    parts: list[str] = []
    here = params
    for number, part in enumerate(loc):
        is_last = number == len(loc) - 1
        if isinstance(here, dict) and (part in here or (is_last and _is_name(part))):
            here = here.get(part)
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
        else:
            continue
        parts.append(str(part).replace("~", "~0").replace("/", "~1"))
    return "".join("/" + part for part in parts)


def _is_name(part: int | str) -> bool:
    return isinstance(part, str) and part.isidentifier() and part == part.lower()


TARGET_LOOK = 2000
"""Most characters of what a request is about that the audit is given; it masks secrets and then shortens."""


def _target(params: dict[str, Any]) -> str:
    for name in _TARGETS:
        value = params.get(name)
        if isinstance(value, str):
            return value[:TARGET_LOOK]
    return ""


def report_bug(exc: BaseException, what: str, caller: Caller) -> HiveError:
    """Log a fault of ours with its traceback; the error for the client names only the incident."""
    incident = make_id("i")
    _log.error(
        "request failed by a fault of hivectl",
        exc_info=exc,
        extra={"incident": incident, "method": what, "request": caller.request},
    )
    return HiveError(
        "INTERNAL",
        f"A fault of hivectl; the log names it {incident}.",
        details={"incident": incident},
    )
