"""What restricts the tokens of one answer while it is made: grammars, budgets of thought, words that may not come."""
