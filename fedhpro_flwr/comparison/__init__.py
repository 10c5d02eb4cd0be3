"""Grids of runs and the tables made of them: `fedhpro compare` and `fedhpro ablate`.

rows.py reads what is compared, grid.py makes the runs of it and looks at all of them before the first one starts,
workers.py runs what is not finished, measures.py reads the finished folders, table.py puts them in numbers,
and panels.py, table_text.py and table_files.py show them.
"""
