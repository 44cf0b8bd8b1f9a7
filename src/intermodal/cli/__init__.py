"""One verb per file; heavy imports happen inside the verbs, so that help answers at once."""
