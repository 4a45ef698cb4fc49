"""Processes of torchrun, joined in one process group of torch.distributed."""
