"""Every kind of DATA -> keys, bytes, pixels."""
