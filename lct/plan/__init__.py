"""The plan of a scale: its runs and cells, the files of each target, and the settings of each stage."""
