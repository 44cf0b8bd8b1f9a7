"""One loop for every system."""
