"""What a model writes, taken apart: content, thoughts, tool calls."""
