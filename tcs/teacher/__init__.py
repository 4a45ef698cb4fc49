"""The frozen teacher: where it comes from, its weights, preprocessing, readouts."""
