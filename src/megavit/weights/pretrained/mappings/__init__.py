"""Key mappings: how each library names the tensors of a Vision Transformer, one module per library.

Each module has one or more `CheckpointFormat`s, with
    signature     names of tensors that together only this format has
    rules         the key table, whole and invertible: see `key_mapping`
    config_from   the config, from the shapes of a checkpoint's tensors, and from facts that go before them
and, where the format needs it, what `checkpoint_format` explains.
"""
