"""A teacher from images alone (scripts/pretrain_teacher.py)."""
