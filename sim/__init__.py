"""Benches and what launches them. Nothing imports this package but the tests."""
