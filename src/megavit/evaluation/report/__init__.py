"""The HTML report of an evaluation, and the functions shared by all reports."""
