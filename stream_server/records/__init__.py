"""What the server keeps: the audit log."""
