"""What the stage `tcs train` is made of: rows, batches, images, the steps of a student, and the loop around many of them."""
