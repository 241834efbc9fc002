"""Image processors of other libraries: how their settings say preprocessing."""
