"""The files of a model folder: where it is, its tensors, its manifest, and checks of them."""
