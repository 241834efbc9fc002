"""Folders, tables and demo sets as sources of labeled images."""
