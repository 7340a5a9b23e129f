"""mock_claude: an executable that behaves as Claude Code's headless command line does.

It needs no account and no network, plays scenarios written in the prompt or in files, and knows
nothing of hivectl: it imports the standard library only, so that it starts at once.
"""

VERSION = "2.1.329"
