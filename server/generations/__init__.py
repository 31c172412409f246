"""From prompts to the pieces of answers: what every dialect of the API is made from."""
