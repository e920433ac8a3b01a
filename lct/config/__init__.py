"""Configuration: strict YAML, settings dataclasses joined, layers merged, the plan of cells, generated schemas. No torch."""
