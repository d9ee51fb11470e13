"""Reports that stand alone: one HTML file with its figures, styles and script inside."""
