"""Whose usage limit a run counts against: the login Claude will use, told without revealing it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from hivectl.logic.environment import CLOUD_SWITCHES, is_on

_KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")


def account_of(env: Mapping[str, str]) -> str:
    """A name for (configuration directory, source of the credential) of a run's environment (DECISIONS 19).

    Secrets appear as eight digits of their hash: enough to tell two of them apart.
    """
    for switch in CLOUD_SWITCHES:
        if is_on(env, switch):
            return switch.removeprefix("CLAUDE_CODE_USE_").lower()
    for name in _KEYS:
        if secret := env.get(name):
            return f"{name}#{hashlib.sha256(secret.encode()).hexdigest()[:8]}"
    return f"login of {env.get('CLAUDE_CONFIG_DIR') or env.get('HOME', '') + '/.claude'}"
