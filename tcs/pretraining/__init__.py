"""A teacher from images alone (`tcs pretrain`)."""
