"""Which images of a store to label next, and the table, sheet or folder that people label from."""
