"""What keeps the audit log from being written."""


class AuditError(Exception):
    """The audit log cannot be opened or written; the message names the file and what to do."""


class AuditInUse(AuditError):
    """Another process writes the log."""
