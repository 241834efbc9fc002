"""The Vision Transformer, smallest parts first.

Read pos_embed, patch_embed (image to tokens), packing (images of different sizes in one sequence), layers, mlp,
attention, block, pooling, vit; then init (initial values) and statistics (parameters, FLOPs).

Letters of the shapes, everywhere in this package: B batch; C image channels; D dim; N patches; R prefix tokens (class
token, registers); T = R + N tokens; H heads; K dim_head; M mlp_dim.
"""
