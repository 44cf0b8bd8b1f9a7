"""Samples with missing fields: where they come from, and how they become batches."""
