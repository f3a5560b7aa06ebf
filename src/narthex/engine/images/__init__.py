"""Images that are made here: an ONNX pipeline in a process of its own. See docs/design/local-images.md."""
