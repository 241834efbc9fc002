"""The HTML report of an evaluation, and what all reports share."""
