"""The command line: one file a verb; each imports what it needs when it is used, so that help comes at once."""
