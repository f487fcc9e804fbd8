"""Engines that run models. Other packages use `base`, which says what an engine is, and the `registry` of engines."""
