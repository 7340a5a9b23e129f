"""hivectl runs Claude Code for you: many prompts, many projects, unattended, with nothing lost.

Importing this package loads nothing else; the Python client lives in `hivectl.client`.
"""

__version__ = "0.1.0"
