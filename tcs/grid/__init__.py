"""`tcs fewshot`: the grid, its cells, its reference rows."""
