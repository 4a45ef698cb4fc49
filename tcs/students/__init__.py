"""Timm models that are trained, and the small-image zoo."""
