"""Worked examples: networks with real, trained weights to compile, run and measure."""

if __name__ != "pagdeploy.examples":  # the repository's root on sys.path would load a second copy
    raise ImportError("import pagdeploy.examples, not examples")
