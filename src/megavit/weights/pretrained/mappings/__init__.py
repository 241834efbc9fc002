"""Key mappings: how each library names the tensors of a Vision Transformer, one module per library.

Each module has one or more `CheckpointFormat`s, with
    signature     names of tensors that together only this format has
    rules         the key table, whole and invertible: see `key_mapping`
    fields        the fields of the config that the shapes of a checkpoint's tensors determine
and, where the format needs it, what `checkpoint_format` explains.
"""
