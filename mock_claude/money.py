"""Tokens and dollars: of a turn, of the process, of the session over its resumes."""

from mock_claude import catalog
from mock_claude.machine import Json

COUNTED = ("inputTokens", "outputTokens", "costUSD")


def usage(input_tokens: int, output_tokens: int) -> Json:
    """The `usage` object of a result."""
    return {
        "input_tokens": input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output_tokens,
        "output_tokens_details": {"thinking_tokens": 0},
        "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0},
        "service_tier": "standard",
        "cache_creation": {"ephemeral_1h_input_tokens": 0, "ephemeral_5m_input_tokens": 0},
        "inference_geo": "",
        "iterations": [],
        "speed": "standard",
        "fallback_credit": None,
    }


def model_usage(model: str, counted: Json) -> Json:
    """One entry of `modelUsage`."""
    return {
        "inputTokens": counted["inputTokens"],
        "outputTokens": counted["outputTokens"],
        "cacheReadInputTokens": 0,
        "cacheCreationInputTokens": 0,
        "webSearchRequests": 0,
        "costUSD": counted["costUSD"],
        "contextWindow": 1000000,
        "maxOutputTokens": 128000,
        "thinkingTokens": 0,
        "cacheCreationEphemeral5mInputTokens": 0,
        "cacheCreationEphemeral1hInputTokens": 0,
        "canonicalModel": model,
        "provider": "firstParty",
        "costBasis": "list",
    }


class Ledger:
    """Running totals. They start from those of a resumed session."""

    def __init__(self) -> None:
        self.by_model: dict[str, Json] = {}
        self.since_result: dict[str, Json] = {}
        self.api_ms = 0
        self.spent_here_usd = 0.0

    def load(self, stored: Json) -> None:
        """Take over a stored `cost-state`; what is missing counts as zero."""
        self.api_ms = int(stored.get("totalAPIDuration", 0))
        for model, entry in dict(stored.get("modelUsage", {})).items():
            self.by_model[model] = {key: entry.get(key, 0) for key in COUNTED}

    def charge(self, model: str, input_tokens: int, output_tokens: int, usd: float | None) -> None:
        """Add one API call; without a price the list price holds."""
        cost = catalog.price_usd(model, input_tokens, output_tokens) if usd is None else usd
        self.spent_here_usd += cost
        for totals in (self.by_model, self.since_result):
            entry = totals.setdefault(model, dict.fromkeys(COUNTED, 0))
            entry["inputTokens"] += input_tokens
            entry["outputTokens"] += output_tokens
            entry["costUSD"] += cost

    @property
    def total_usd(self) -> float:
        """Dollars of the session so far."""
        return sum((float(entry["costUSD"]) for entry in self.by_model.values()), 0.0) or 0

    def report(self) -> Json:
        """`modelUsage`."""
        return {model: model_usage(model, entry) for model, entry in self.by_model.items()}

    def report_since_result(self) -> Json:
        """`model_usage_since_last_result`; starts the next period."""
        told = {model: model_usage(model, entry) for model, entry in self.since_result.items()}
        self.since_result = {}
        return told

    def stored(self) -> Json:
        """The fields of a `cost-state` line."""
        return {
            "totalCostUSD": self.total_usd,
            "totalAPIDuration": self.api_ms,
            "modelUsage": {model: dict(entry) for model, entry in self.by_model.items()},
        }
