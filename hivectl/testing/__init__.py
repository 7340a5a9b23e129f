"""Public fakes and conformance suites for people who test against hivectl."""
