"""How the tiny tier's foundation model was made. Readers of the book never need it: the weights are
in data/foundation; instructors and researchers may want another one."""
