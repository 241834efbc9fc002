"""Tokens that are not patches, and patches that are left out."""

import torch
from torch import Tensor, nn

from megavit.config.vit import ViTConfig
from megavit.model.pos_embed import Rotation


class PrefixTokens(nn.Module):
    """Puts the class token, if the model pools by one, and the registers before the patches: (B, N, D) -> (B, T, D).

    Their positions add nothing that the tokens could not learn; they are kept because published weights have both.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        design, dim = config.design, config.dim
        placed = design.prefix_positions if design.positions.startswith("learned") else "none"
        has_class, registers = config.pool == "cls", design.registers
        self.class_token = nn.Parameter(torch.empty(dim)) if has_class else None
        self.class_position = nn.Parameter(torch.empty(dim)) if has_class and placed != "none" else None
        self.registers = nn.Parameter(torch.empty(registers, dim)) if registers else None
        self.register_positions = nn.Parameter(torch.empty(registers, dim)) if registers and placed == "all" else None

    def forward(self, patches: Tensor) -> Tensor:
        prefix = []
        if self.class_token is not None:
            token = self.class_token if self.class_position is None else self.class_token + self.class_position
            prefix.append(token[None])
        if self.registers is not None:
            registers = self.registers
            prefix.append(registers if self.register_positions is None else registers + self.register_positions)
        if not prefix:
            return patches
        tokens = torch.cat(prefix).to(patches.dtype).expand(patches.shape[0], -1, -1)
        return torch.cat([tokens, patches], dim=1)


class PatchDrop(nn.Module):
    """In training, keeps a random share of each image's patches, and their rotations (arXiv 2212.00794)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, patches: Tensor, rotation: Rotation | None) -> tuple[Tensor, Rotation | None]:
        if not self.training or self.share == 0:
            return patches, rotation
        batch, count, dim = patches.shape
        keep = max(1, round(count * (1 - self.share)))
        chosen = torch.rand(batch, count, device=patches.device).topk(keep, dim=1).indices
        patches = patches.gather(1, chosen[:, :, None].expand(-1, -1, dim))
        if rotation is not None:
            rotation = Rotation(rotation.cos[chosen][:, None], rotation.sin[chosen][:, None])
        return patches, rotation
