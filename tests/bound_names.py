"""Submodules that the import of a package alone binds, and that a file may reach without an import of its own."""

BOUND = {
    "cache": ("cache.errors",),
    "h5py": tuple(f"h5py.{name}" for name in ("h5a", "h5d", "h5f", "h5l", "h5p", "h5s", "h5t")),
    "numpy": ("numpy.lib", "numpy.lib.format", "numpy.linalg", "numpy.random", "numpy.testing"),
    "torch": (
        *("torch.amp", "torch.autograd", "torch.backends", "torch.backends.cudnn", "torch.compiler", "torch.cuda"),
        *("torch.export", "torch.linalg", "torch.nn", "torch.nn.functional", "torch.nn.init", "torch.nn.utils"),
        *("torch.nn.utils.parametrizations", "torch.optim", "torch.optim.lr_scheduler", "torch.random"),
        *("torch.serialization", "torch.sparse", "torch.testing"),
    ),
    "torch.nn": ("torch.nn.functional", "torch.nn.init"),
}
