"""TensorFlow Serving's REST API: `:predict`, `:classify` and `:regress`."""
