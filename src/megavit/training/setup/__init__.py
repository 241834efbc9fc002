"""Resolving a recipe: every choice that it leaves open is made here once."""
