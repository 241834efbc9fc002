"""The model card: what a person who is handed a bundle should know first (arXiv 1810.03993)."""

from collections.abc import Sequence
from typing import Any


def model_card(
    labels: Sequence[str], metrics: dict[str, Any], data: dict[str, Any], model: dict[str, Any], created: str
) -> str:
    """Markdown."""
    accuracy = metrics["accuracy"]
    names = ", ".join(labels[:50]) + (f", and {len(labels) - 50} more" if len(labels) > 50 else "")
    height, width = model["image_size"]
    return f"""# An image classifier

It tells {len(labels)} kinds of image apart: {names}.

- **Right on {accuracy["value"]:.1%}** of {metrics["images"]} test images it had not seen
  (95% interval {accuracy["low"]:.1%} to {accuracy["high"]:.1%}).
- That figure holds for images like those of the test, and says nothing about others. Every image gets one of
  the labels above, also one that shows none of them.
- Trained on {data["source"]}, {data["counts"]["train"]} images; {data["division"]}
- Images are resized to {height} × {width} pixels, the whole image, whatever its shape.
- Written on {created} by megavit.

```python
import megavit
predictor = megavit.load("this folder")
print(predictor.predict("photo.jpg").label)
```

`megavit.json` has every setting and metric, `samples.csv` which image was used for what, `golden.safetensors`
pictures with the answers they must give: `megavit predict THIS_FOLDER photo.jpg --verify` checks them first.
"""
