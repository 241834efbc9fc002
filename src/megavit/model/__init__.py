"""The Vision Transformer, in modules from the smallest part to the whole model.

Suggested reading order: pos_embed, packing, layers, linear, embedding, mlp, attention, block, pooling, vit, init,
statistics.

Shape letters in this package: B batch; C image channels; D dim; N patches; R prefix tokens (class token and
registers); T = R + N tokens; H heads; K dim_head; M mlp_dim.
"""
