"""No event loop outside of tests."""

import asyncio

# Python 3.11 makes a loop for whoever asks for one, and pytest-asyncio asks before its first test when
# another test ran before; nobody closes that loop, and its warning fails the run at the very end.
asyncio.set_event_loop(None)
