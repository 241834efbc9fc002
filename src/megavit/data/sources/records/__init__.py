"""Labeled images from Python objects, and from files whose cells have types, such as Parquet and JSON."""
