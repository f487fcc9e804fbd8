"""One prediction call, from the bytes of its body to the bytes of its answer."""
