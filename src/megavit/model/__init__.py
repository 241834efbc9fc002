"""The Vision Transformer, smallest parts first: norm, patches, positions, packing, attention, feedforward, block,
pooling, vit.

Shapes are written with these letters everywhere in this package:
B batch; C image channels; D dim; N patches; R prefix tokens (class token, registers); T = R + N tokens;
H heads; K dim_head; M mlp_dim.
"""
