"""Ways to tell people and programs outside: the apprise library, signed webhooks."""
