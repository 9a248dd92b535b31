"""Netlists in place of the core: the vendor cells' models, and the bench around them (run.py)."""
