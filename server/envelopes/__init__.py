"""How each dialect of the API words an answer."""
