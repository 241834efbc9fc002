"""The methods by which a map is made; without torch, so that the command line starts fast.

"relevance": of each attention weight times its gradient, the positive part, averaged over heads and carried through
the layers by R ← R + Ā R (Chefer, Gur and Wolf, arXiv 2103.15679, equations 5 and 6). What a class token has is read
off its row. Mean and attention pooling are attention too, of one query to the patches, and are treated as such
(equation 10 there, for a query that has seen nothing yet).

"rollout": the attention weights alone, averaged over heads, half of each layer passing by it, multiplied through the
layers (Abnar and Zuidema, arXiv 2005.00928, section 3). It knows of no class: it says where the model looks at all.
"""

from typing import Literal

Method = Literal["relevance", "rollout"]

METHOD: Method = "relevance"
"""Where nothing else is asked for: what measured better with `benchmarks/explanations.py`."""
