"""Labels of the pool: few labels spread over all cached rows, and the linear head that does it (the transductive probe)."""
