"""Time budgets: measuring this machine's speed, and choosing the largest model that gets enough steps."""
