"""Other libraries' Vision Transformers: how each names its tensors, a file a layout.

Each file has:
    TOLD_BY     names of tensors that together only this layout has
    table       the rules for a config, whole and invertible
    config_of   the config, from the shapes of a checkpoint and from what is known besides

and, where files in the layout need it:
    PREFIXES    what all names may begin with; what begins otherwise is no part of the Vision Transformer
    tidy        a checkpoint as `table` has it, from the names and shapes of other versions; changes nothing else
"""
