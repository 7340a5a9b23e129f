"""How names on the wire look. Apart from their models, which need pydantic."""

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]*$"
"""Of projects and their like."""
ENV_NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
"""Of environment variables."""
