"""The same examples on every run and machine, without a data base beside the tests."""

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=30, database=None)
settings.load_profile("repeatable")
