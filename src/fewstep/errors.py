"""Errors that are the user's to fix: one sentence that names what is wrong and what to do."""


class UserError(Exception):
    """Shown as one line, without a traceback; the command line exits with code 2."""
