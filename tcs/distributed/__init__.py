"""Processes of torchrun: how they talk, watch each other, and end together."""
