"""The TCP listener: bound as the settings say, plain or with TLS, with the Host and Origin rules that go with it."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from hivectl.config import Settings
from hivectl.kit.aio import Nursery
from hivectl.kit.clock import Clock
from hivectl.model.errors import HiveError
from hivectl.server import listen
from hivectl.server.limits import CERTIFICATE_LOOK_S
from hivectl.server.problem import StandardHeaders
from hivectl.server.security import Gate, TcpAddress, parse_listen

if TYPE_CHECKING:
    from hivectl.server.door import Door
    from hivectl.server.tls import Credentials

_log = logging.getLogger(__name__)

Factory = Callable[[Gate], asyncio.Protocol]
Tell = Callable[[str, str], None]
"""Tells people of something: what, and the next step."""


class TcpListener:
    """Nothing is opened before `start`."""

    def __init__(self, settings: Settings, clock: Clock, *, tell: Tell | None = None) -> None:
        """`tell` hears of what befalls the certificate while the daemon runs."""
        self._settings = settings
        self._clock = clock
        self._tell_people = tell or (lambda _message, _hint: None)
        self._credentials: Credentials | None = None
        self._plain: asyncio.Server | None = None
        self._door: Door | None = None
        self._gate = Gate(port=None)
        self.bound: TcpAddress | None = None
        """Where it listens; None while it does not."""
        self.warnings: list[str] = []

    async def start(
        self,
        factory: Factory,
        *,
        headers: StandardHeaders,
        nursery: Nursery,
        run: Callable[[Coroutine[Any, Any, Any], str], None],
    ) -> None:
        """Listen, unless it is off. Raises HiveError CONFIG_INVALID; nothing is left open then."""
        has_tls = bool(
            self._settings.text("listen.tls_cert") or self._settings.text("listen.tls_key")
        )
        address = parse_listen(
            self._settings.text("listen.tcp"),
            insecure_plain_http=self._settings.flag("listen.insecure_plain_http"),
            has_tls=has_tls,
        )
        if address is None:
            return
        if has_tls:
            # The module ssl is there anyway, by asyncio; what is ours is loaded only here.
            from hivectl.server.tls import Credentials  # noqa: PLC0415

            self._credentials = Credentials(self._settings, self._clock, tell=self._tell)
        listener = self._bind(address)
        if listener is None:
            return
        self.bound = TcpAddress(address.host, listener.getsockname()[1])
        try:
            self._gate = self._make_gate(self.bound)
        except HiveError:
            listener.close()
            raise
        make = lambda: factory(self._gate)  # noqa: E731
        if self._credentials is None:
            if not self.bound.is_loopback:
                self.warnings.append(f"{self.bound} is reachable from other machines, unencrypted")
            loop = asyncio.get_running_loop()
            self._plain = await loop.create_server(make, sock=listener, backlog=listen.BACKLOG)
            return
        from hivectl.server.door import Door  # noqa: PLC0415

        credentials = self._credentials
        self._door = Door(
            listener,
            context=lambda: credentials.context,
            factory=make,
            headers=headers,
            nursery=nursery,
        )
        run(self._watch(credentials), "watch the certificate")

    def close(self) -> None:
        """Accept no more."""
        for each in (self._plain, self._door):
            if each is not None:
                each.close()
        self._plain = None

    def reload(self) -> None:
        """Read the certificate's files again; connections that live are not touched."""
        if self._credentials is not None and self._credentials.reload():
            self._take_over(self._credentials)

    @property
    def problems(self) -> list[str]:
        """What is wrong with the certificate, in words."""
        return self._credentials.problems if self._credentials is not None else []

    def tls(self) -> dict[str, Any] | None:
        """Facts of the certificate; None without TLS."""
        if self._credentials is None:
            return None
        failed = self._door.failed if self._door is not None else 0
        return {**self._credentials.facts(), "handshakes_failed": failed}

    def _bind(self, address: TcpAddress) -> socket.socket | None:
        wanted = self._settings.text("listen.tcp")
        try:
            return listen.bind_tcp(address)
        except OSError as exc:
            if not self._settings.origins["listen.tcp"].startswith("default"):
                raise HiveError(
                    "CONFIG_INVALID",
                    f"listen.tcp: {wanted} cannot be used: {exc.strerror}",
                    hint="Set another port, 0 for a free one, or off.",
                    details={"key": "listen.tcp"},
                ) from exc
            why = (
                "is taken" if exc.errno == errno.EADDRINUSE else f"cannot be used ({exc.strerror})"
            )
            self.warnings.append(f"{wanted} {why}: there is no TCP listener")
            return None

    def _make_gate(self, bound: TcpAddress) -> Gate:
        credentials = self._credentials
        return Gate(
            port=bound.port,
            bound=bound.host,
            is_tls=credentials is not None,
            own_names=credentials.certificate.names if credentials is not None else (),
            allowed_hosts=self._settings.strings("listen.allowed_hosts"),
            public_origins=self._settings.strings("listen.public_origins"),
        )

    async def _watch(self, credentials: Credentials) -> None:
        while True:
            await asyncio.sleep(CERTIFICATE_LOOK_S)
            if credentials.look():
                self._take_over(credentials)

    def _take_over(self, credentials: Credentials) -> None:
        assert self.bound is not None
        self._gate = self._make_gate(self.bound)
        _log.info("a new TLS certificate is in use", extra=credentials.facts())

    def _tell(self, message: str, hint: str) -> None:
        _log.warning(message, extra={"next": hint})
        self._tell_people(message, hint)
