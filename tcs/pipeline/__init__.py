"""`tcs distill`: the whole chain from images to exported students, each stage by the function of its own command."""
