"""The settings of a run: sections, bounds, defaults, presets, and where they are read. config.py joins them."""
