"""Read labeled images from folders, tables and demo sets."""
