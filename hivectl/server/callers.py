"""From a peer and its credential to a Caller: the one place where scopes are given.

The UNIX socket's peer is known by its uid, a TCP peer by the bearer token. Whatever the credential, a
caller that descends from an execution is that execution and never gets the scopes of SELF_DENIED.
"""

from __future__ import annotations

import asyncio
import os
import pwd
from dataclasses import replace

from hivectl.model.access import PERSON_SCOPES, SELF_DENIED, Caller
from hivectl.protocol.methods import Method
from hivectl.server import peers
from hivectl.server.peers import Ancestry, Peer
from hivectl.server.security import Headers, Token


class Callers:
    """Knows the daemon's user and the token."""

    def __init__(self, token: Token | None, ancestry: Ancestry) -> None:
        self.token = token
        self.ancestry = ancestry
        self.uid = os.getuid()
        self.actor = f"user:{_user_name(self.uid)}"

    def is_foreign(self, peer: Peer) -> bool:
        """Whether a local peer is another user's process."""
        return peer.uid is not None and peer.uid != self.uid

    def accepts_header(self, headers: Headers) -> bool | None:
        """Whether the Authorization header counts; None when there is none."""
        found = self.token.matches_header(headers) if self.token else None
        if found is None and any(name == b"authorization" for name, _ in headers):
            return False
        return found

    def accepts_token(self, token: str | None) -> bool:
        """Whether this is the token."""
        return token is not None and self.token is not None and self.token.matches(token)

    def caller_of(self, peer: Peer, *, connection: str = "") -> Caller:
        """The caller behind a peer whose credential counts."""
        caller = Caller(
            actor=self.actor, scopes=PERSON_SCOPES, connection=connection, peer=peer.label
        )
        return as_execution(caller, peers.find_execution(peer, self.ancestry))

    async def look_closer(self, caller: Caller, peer: Peer, method: Method) -> Caller:
        """For what an execution may not do, or not as freely, also find out which process here is behind a
        TCP connection."""
        is_plain = method.scope not in SELF_DENIED and not method.changes
        if peer.is_local_socket or is_plain:
            return caller
        found = await asyncio.to_thread(peers.find_tcp_execution, peer, self.ancestry)
        return as_execution(caller, found)


def as_execution(caller: Caller, execution: str | None) -> Caller:
    """The caller as the execution it belongs to, when it belongs to one."""
    if execution is None:
        return caller
    return replace(
        caller,
        actor=f"execution:{execution}",
        execution=execution,
        scopes=caller.scopes - SELF_DENIED,
    )


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
