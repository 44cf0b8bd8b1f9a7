"""Model to sequence: choosing ids one after another."""
