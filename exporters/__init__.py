"""The front end: a trained PyTorch model in, one portable ONNX file out."""

if __name__ != "pagdeploy.exporters":  # the repository's root on sys.path would load a second copy
    raise ImportError("import pagdeploy.exporters, not exporters")
