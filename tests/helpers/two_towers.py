"""Small CLIP and SigLIP models of random weights, with a tokenizer, as transformers saves them."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = ["<pad>", "<end>", "<start>", "a", "photo", "of", "cat", "dog", "red", "shoe", "."]
SIZES: dict[str, Any] = {"intermediate_size": 32, "num_hidden_layers": 2}
TEXT = SIZES | {"vocab_size": len(WORDS), "hidden_size": 16, "num_attention_heads": 2, "max_position_embeddings": 9}
VISION = SIZES | {"hidden_size": 24, "num_attention_heads": 3, "image_size": 32, "patch_size": 8}
TOKENS = {"eos_token_id": 1, "bos_token_id": 2, "pad_token_id": 0}


def save_two_towers(folder: Path, kind: str) -> Any:
    """Save a model to a folder, and return it in evaluation mode; `kind` is "clip" or "siglip"."""
    import transformers

    if kind == "clip":
        config = transformers.CLIPConfig(text_config=TEXT | TOKENS, vision_config=VISION, projection_dim=20)
        model = transformers.CLIPModel(config)
        processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32)
    else:
        text = TEXT | TOKENS | {"hidden_size": 24, "projection_size": 24}
        model = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=VISION))
        processor = transformers.SiglipImageProcessorPil(size={"height": 32, "width": 32})
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=random) * 0.2)
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    make_tokenizer(kind).save(str(folder / "tokenizer.json"))
    return model


def make_tokenizer(kind: str) -> Tokenizer:
    """Return a tokenizer of whole words; CLIP's puts every text between two tokens, SigLIP's puts one behind it."""
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, "<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    template = "<start> $A <end>" if kind == "clip" else "$A <end>"
    special = [(name, WORDS.index(name)) for name in ("<start>", "<end>") if name in template]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
    return tokenizer
