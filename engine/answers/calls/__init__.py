"""The formats in which models write tool calls, a file for each way of writing them."""
