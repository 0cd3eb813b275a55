"""The exercises, a module a notebook. Solutions come first, cases beside them."""
