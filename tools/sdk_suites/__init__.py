"""The suites of other people's clients against the server: ``nox -s sdk-suites``."""
