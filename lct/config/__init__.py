"""Configuration: strict YAML, settings joined, layers merged, the plan of cells, generated schemas. No torch."""
