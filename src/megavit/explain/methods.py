"""The methods by which a map is made; without torch, so that the command line starts fast.

"integrated_gradients": the gradient of the answer's logit with respect to the pixels, averaged on the straight way from
an image without content, times how far the pixels are from that, summed over each patch, the positive part
(Sundararajan, Taly and Yan, arXiv 1703.01365, section 3). It asks what the image's patches, as they are, do to the
answer, whatever the model is made of. Eight passes forward and back.

"relevance": of each attention weight times its gradient, the positive part, averaged over heads and carried through
the layers by R ← R + Ā R (Chefer, Gur and Wolf, arXiv 2103.15679, equations 5 and 6). What a class token has is read
off its row; of mean pooling, the mean of the patches' rows; attention pooling is one more such layer, of one query
that has seen nothing yet (equation 10 there). One pass.

"rollout": the attention weights alone, averaged over heads, half of each layer passing by it, multiplied through the
layers (Abnar and Zuidema, arXiv 2005.00928, section 3). It knows of no class: it says where the model looks at all.
One pass forward.
"""

from typing import Literal

Method = Literal["integrated_gradients", "relevance", "rollout"]

DEFAULT_METHOD: Method = "integrated_gradients"
"""Where nothing else is asked for: what gains most over a random order of patches with `benchmarks/explanations.py`,
for each kind of pooling, without looking like the map of a model that has learned nothing."""
