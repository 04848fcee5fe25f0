"""pytest hooks: a docstring and one delegated call each; imports nothing heavy."""
