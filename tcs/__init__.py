"""Few-shot TCS distillation from a feature cache. Import the stage you need, e.g. ``tcs.training.train``; nothing is re-exported here."""

from tcs import shadowing

__version__ = "0.2.0"

shadowing.install()
