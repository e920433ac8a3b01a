"""From one JSON file with every cell to HTML, Markdown, LaTeX and CSV; recomputes nothing."""
