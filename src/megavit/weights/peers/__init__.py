"""Other libraries' Vision Transformers: how each names its tensors, a file a layout.

Each file has:
    TOLD_BY     names of tensors that together only this layout has
    table       the rules for a config, whole and invertible
    config_of   the config, from the shapes of a checkpoint and from what is known besides

and, where the layout needs it:
    names       of the tensors of a checkpoint, those of the model: name -> name in the table
    tidy        tensors by the names of the table, from a version that shaped them otherwise, as the table has them
    known       what the layout's own settings say, for `config_of`
    assumed     of a config, what no tensor tells: name -> value; by default `shapes.untold`
"""
