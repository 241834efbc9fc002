"""Load the text tower and the tokenizer of a folder in the layout of Hugging Face's transformers."""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from megavit.errors import BundleError, ConfigError
from megavit.weights.bundle.safetensors_io import load_weights
from megavit.weights.pretrained.checkpoint_files import find_checkpoint, read_checkpoint
from megavit.weights.pretrained.settings_files import read_model_settings, read_settings, valid_settings
from megavit.weights.text_tower.tower import TextTower, TextTowerConfig

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER, TOKENIZER_SETTINGS = "tokenizer.json", "tokenizer_config.json"
SCALE, BIAS = "logit_scale", "logit_bias"
CLIP: dict[str, Any] = {"num_attention_heads": 8, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
SIGLIP: dict[str, Any] = {"num_attention_heads": 12, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
DEFAULTS = {"clip": CLIP, "siglip": SIGLIP}
"""Settings that config.json may leave out, for each supported model_type of transformers."""
ACTIVATIONS = {"quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh"}
MODULES = {
    "self_attn.out_proj": "self_attn.out_proj",
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "mlp.fc1": "linear1",
    "mlp.fc2": "linear2",
}


@dataclass(frozen=True)
class TextEncoder:
    """A text tower with its tokenizer.

    Attributes:
        scale: factor of the cosines of texts and images in the logits.
    """

    folder: Path
    tower: TextTower
    tokenizer: "Tokenizer"
    scale: float
    without_punctuation: bool

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings (N, D) of texts, with length 1, or raise a ConfigError for one without a word."""
        canonical = [self._canonical(text) for text in texts]
        if blank := [text for text, words in zip(texts, canonical, strict=True) if not words.strip()]:
            raise ConfigError(f"a text must have at least one word, got {blank[0]!r}")
        return self.tower.embed([self.tokenizer.encode(text).ids for text in canonical])

    def _canonical(self, text: str) -> str:
        """Return a text as the tokenizer expects it; SigLIP's has seen neither capitals nor punctuation."""
        return text.lower().translate(str.maketrans("", "", string.punctuation)) if self.without_punctuation else text


def load_text_encoder(folder: Path) -> TextEncoder:
    """Load the text tower of a two-tower model.

    Raises:
        BundleError: if the folder has no text tower or tokenizer, or they cannot be read.
        ConfigError: if the package tokenizers is not installed.
    """
    settings = read_model_settings(folder) if folder.is_dir() else {}
    kind = settings.get("model_type")
    if kind not in DEFAULTS or not isinstance(settings.get("text_config", {}), dict):
        raise BundleError(
            f"{folder} has no text tower, so that images cannot be compared with text: pass the folder of a CLIP or "
            "SigLIP model with both towers, as Hugging Face's transformers saves it"
        )
    file = find_checkpoint(folder)
    tensors = max(read_checkpoint(file).tables.values(), key=len)
    try:
        with valid_settings("text tower"):
            config = _read_config(DEFAULTS[kind] | settings.get("text_config", {}), tensors, causal=kind == "clip")
        with torch.device("meta"):
            tower = TextTower(config)
        load_weights(tower, _to_ours(tensors, config), str(file))
        scale = tensors[SCALE].float().exp().item()
    except KeyError as error:
        raise BundleError(f"{file} has no text tower, as it lacks {error}: use a model with both towers") from None
    tokenizer = _load_tokenizer(folder, config, settings.get("text_config", {}).get("pad_token_id", 1))
    without = read_settings(folder / TOKENIZER_SETTINGS).get("tokenizer_class") == "SiglipTokenizer"
    return TextEncoder(folder, tower.eval(), tokenizer, scale, without)


def _read_config(settings: dict[str, Any], tensors: dict[str, Tensor], *, causal: bool) -> TextTowerConfig:
    vocabulary, dim = tensors["text_model.embeddings.token_embedding.weight"].shape
    depth = 1 + max(int(name.split(".")[3]) for name in tensors if name.startswith("text_model.encoder.layers."))
    if settings["hidden_act"] not in ACTIVATIONS or dim % settings["num_attention_heads"]:
        raise BundleError(f"a text tower with {settings['hidden_act']} and {dim} channels cannot be read")
    return TextTowerConfig(
        vocabulary=vocabulary,
        context=len(tensors["text_model.embeddings.position_embedding.weight"]),
        dim=dim,
        depth=depth,
        heads=settings["num_attention_heads"],
        mlp_dim=len(tensors["text_model.encoder.layers.0.mlp.fc1.weight"]),
        embedding_dim=len(tensors["text_projection.weight" if causal else "text_model.head.weight"]),
        activation=ACTIVATIONS[settings["hidden_act"]],
        norm_eps=settings["layer_norm_eps"],
        causal=causal,
    )


def _to_ours(tensors: dict[str, Tensor], config: TextTowerConfig) -> dict[str, Tensor]:
    """Return the weights of the text tower by our names, in float32; raise a KeyError that names a missing one."""
    ours = {
        "tokens.weight": tensors["text_model.embeddings.token_embedding.weight"],
        "positions.weight": tensors["text_model.embeddings.position_embedding.weight"],
    }
    for kind in ("weight", "bias"):
        ours[f"transformer.norm.{kind}"] = tensors[f"text_model.final_layer_norm.{kind}"]
        for layer in range(config.depth):
            theirs, own = f"text_model.encoder.layers.{layer}", f"transformer.layers.{layer}"
            parts = [tensors[f"{theirs}.self_attn.{name}_proj.{kind}"] for name in "qkv"]
            ours[f"{own}.self_attn.in_proj_{kind}"] = torch.cat(parts)
            ours |= {f"{own}.{new}.{kind}": tensors[f"{theirs}.{old}.{kind}"] for old, new in MODULES.items()}
    if config.causal:
        weight = tensors["text_projection.weight"]
        ours |= {"projection.weight": weight, "projection.bias": torch.zeros(len(weight))}
    else:
        ours |= {f"projection.{kind}": tensors[f"text_model.head.{kind}"] for kind in ("weight", "bias")}
    return {name: tensor.float().clone() for name, tensor in ours.items()}


def _load_tokenizer(folder: Path, config: TextTowerConfig, padding: int) -> "Tokenizer":
    """Return the tokenizer of a folder, which cuts texts, and pads them where the tower has seen only padded ones."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise ConfigError("text requires the package tokenizers: pip install 'megavit[text]'") from None
    path = folder / TOKENIZER
    if not path.is_file():
        raise BundleError(
            f"{folder} has no {TOKENIZER}: save its tokenizer there with transformers, "
            "AutoTokenizer.from_pretrained(MODEL).save_pretrained(FOLDER)"
        )
    try:
        tokenizer = Tokenizer.from_buffer(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from None
    if tokenizer.get_vocab_size() > config.vocabulary:
        raise BundleError(
            f"{path} has {tokenizer.get_vocab_size():,} tokens, but the text tower knows {config.vocabulary:,}: they "
            "are of different models"
        )
    tokenizer.no_padding()
    tokenizer.enable_truncation(config.context)
    if not config.causal:
        tokenizer.enable_padding(length=config.context, pad_id=padding)
    return tokenizer
