"""Grids of runs and the tables made of them: `fedhpro compare` and `fedhpro ablate`.

rows.py reads what is compared, grid.py turns it into runs and checks all of them before the first one starts,
workers.py runs those that are not finished, measures.py reads the finished folders, table.py computes the numbers
of the table, and panels.py, table_text.py and table_files.py show them.
"""
