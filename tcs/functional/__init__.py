"""Distillation losses as pure functions of tensors: what is trained beside the student, or frozen, comes in as an argument.

Letters of the package: B batch, C classes, S student dims, T teacher dims, K reduced dims, H hash bits or height, W width,
P positions of a map, E embedding dims, N images, Q queue rows. The teacher's side is a constant (detached) except in `cc`
and `crd`, whose teacher-side heads are trained. Every loss works in at least float32, outside autocast, and keeps float64.
"""
