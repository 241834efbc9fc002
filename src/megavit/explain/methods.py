"""Define the attribution methods for relevance maps; imports no torch, so that the command line starts fast.

"integrated_gradients": the gradient of the logit with respect to the pixels, averaged on the straight path from a
baseline to the image, multiplied by their difference, summed over each patch and clipped at 0 (Sundararajan, Taly and
Yan, arXiv 1703.01365, section 3). Independent of the architecture. Eight forward and backward passes.

"relevance": the positive part of each attention weight times its gradient, averaged over heads and propagated through
the layers by R ← R + Ā R (Chefer, Gur and Wolf, arXiv 2103.15679, equations 5 and 6). The result is the row of the
class token, or for mean pooling the mean of the patches' rows; attention pooling is one more layer with one query that
has attended to nothing yet (equation 10). One forward and backward pass.

"rollout": the attention weights, averaged over heads and with the identity, multiplied through the layers (Abnar and
Zuidema, arXiv 2005.00928, section 3). The same for every class. One forward pass.
"""

from typing import Literal

Method = Literal["integrated_gradients", "relevance", "rollout"]

DEFAULT_METHOD: Method = "integrated_gradients"
"""The best method in `benchmarks/trust/explanations.py` for each kind of pooling; its maps change with training."""
