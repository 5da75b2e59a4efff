"""How iterations are counted against a budget; the help, the docs and the skill say the same."""

BUDGET_RULE = "A failed iteration counts; its repetition in place does not count again."
