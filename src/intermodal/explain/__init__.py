"""Which part, which field decided: told by leaving it out."""
